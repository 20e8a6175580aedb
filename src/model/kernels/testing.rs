//! Tests on every instruction set of this processor.

use crate::isa::{Isa, on_this_thread, use_on_this_thread};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A result that can be compared to the bit.
pub trait Bits {
    /// All its numbers.
    fn bits(&self) -> Vec<u64>;
}

impl Bits for () {
    fn bits(&self) -> Vec<u64> {
        Vec::new()
    }
}

impl Bits for u32 {
    fn bits(&self) -> Vec<u64> {
        vec![u64::from(*self)]
    }
}

impl Bits for f32 {
    fn bits(&self) -> Vec<u64> {
        vec![u64::from(self.to_bits())]
    }
}

impl Bits for f64 {
    fn bits(&self) -> Vec<u64> {
        vec![self.to_bits()]
    }
}

impl<T: Bits> Bits for Vec<T> {
    fn bits(&self) -> Vec<u64> {
        self.iter().flat_map(Bits::bits).collect()
    }
}

impl<T: Bits, U: Bits> Bits for (T, U) {
    fn bits(&self) -> Vec<u64> {
        [self.0.bits(), self.1.bits()].concat()
    }
}

impl<T: Bits, E> Bits for Result<T, E> {
    fn bits(&self) -> Vec<u64> {
        self.as_ref().map_or_else(|_| Vec::new(), Bits::bits)
    }
}

/// A pool whose threads use the instruction set of the calling thread.
pub fn pool(threads: usize) -> ThreadPool {
    let set = on_this_thread();
    let builder = ThreadPoolBuilder::new().num_threads(threads);
    let builder = builder.start_handler(move |_| use_on_this_thread(set));
    builder.build().expect("threads")
}

/// What `f` gives with the best instruction set, after it has run with each that this processor has
/// (under Miri with the baseline, without threads). Sets that multiply and add with one rounding
/// must give the same bits; the others round differently, so `f` itself checks what holds for all.
pub fn on_every_set<R: Bits + Send>(f: impl Fn() -> R + Sync) -> R {
    if cfg!(miri) {
        return f();
    }
    let before = on_this_thread();
    let run = |set: Isa| {
        use_on_this_thread(Some(set));
        (set, pool(2).install(&f))
    };
    let mut results: Vec<(Isa, R)> = Isa::available().into_iter().map(run).collect();
    use_on_this_thread(before);
    let fused: Vec<_> = results.iter().filter(|(set, _)| set.fma()).collect();
    for pair in fused.windows(2) {
        let ((a, of_a), (b, of_b)) = (pair[0], pair[1]);
        assert!(
            of_a.bits() == of_b.bits(),
            "{} and {} give different bits",
            a.name(),
            b.name()
        );
    }
    results.swap_remove(0).1
}

#[test]
#[cfg_attr(miri, ignore = "threads")]
fn every_set_is_run_under_its_name() {
    let names = std::sync::Mutex::new(Vec::new());
    on_every_set(|| {
        let name = crate::isa::instruction_set();
        let inside = pool(3).install(crate::isa::instruction_set);
        assert_eq!(name, inside);
        names.lock().unwrap().push(name);
    });
    let all: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
    assert_eq!(*names.lock().unwrap(), all);
    assert_eq!(all.last(), Some(&"baseline"));
}
