//! Compiles the kernels and their emulation with the C++ compiler of the machine.

fn main() {
    println!("cargo::rerun-if-changed=.");
    println!("cargo::rerun-if-changed=../kernels");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // One rounding for one text, whatever the processor and the compiler's taste.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag("-Wno-unknown-pragmas")
        .define("EMULATE", None)
        // Kernels register themselves when the program starts, which nothing refers to.
        .link_lib_modifier("+whole-archive")
        .file("kernels.cc")
        .files(["block.cc", "fiber.cc", "launch.cc", "mma.cc", "shared.cc"])
        .compile("emulation");
}
