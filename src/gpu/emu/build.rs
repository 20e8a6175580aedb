//! Compiles the kernels and their emulation with the C++ compiler of the machine, to link them and as a library that a
//! program opens.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=.");
    println!("cargo::rerun-if-changed=../kernels");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .pic(true)
        // One rounding for one text, whatever the processor and the compiler's taste.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag("-Wno-unknown-pragmas")
        .define("EMULATE", None)
        // Kernels register themselves when the program starts, which nothing refers to.
        .link_lib_modifier("+whole-archive")
        .file("kernels.cc")
        .files(["block.cc", "fiber.cc", "launch.cc", "mma.cc", "shared.cc"]);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    build.compile("emulation");
    library(&build, &out);
}

/// Links the same objects as a library.
fn library(build: &cc::Build, out: &Path) {
    let (objects, library) = (out.join("libemulation.a"), out.join("libkernels.so"));
    #[allow(
        clippy::disallowed_methods,
        reason = "cargo tells build scripts by the environment"
    )]
    let all = match env::var("CARGO_CFG_TARGET_VENDOR").as_deref() {
        Ok("apple") => vec!["-Wl,-force_load".into(), objects.into_os_string()],
        _ => vec![
            "-Wl,--whole-archive".into(),
            objects.into_os_string(),
            "-Wl,--no-whole-archive".into(),
        ],
    };
    let mut link = build.get_compiler().to_command();
    link.arg("-shared").args(all);
    link.arg("-pthread").arg("-o").arg(&library);
    let linked = link.status().expect("the C++ compiler starts");
    assert!(linked.success(), "{link:?}");
    println!("cargo::rustc-env=EMULATION_LIBRARY={}", library.display());
}
