//! Makes the bindings from the DPDK headers that pkg-config points at, and compiles the wrappers of its inlines.

use std::{env, panic, path::PathBuf, process, process::Command};

const OLDEST: &str = "22.11";

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");

    // Prints the libraries to link with. Drivers are not among them: EAL loads those as plugins when it starts.
    let dpdk = pkg_config::Config::new().atleast_version(OLDEST).probe("libdpdk");
    if let Err(reason) = dpdk {
        let why = match reason {
            pkg_config::Error::EnvNoPkgConfig(_) | pkg_config::Error::Command { .. } => {
                "pkg-config is not installed: apt-get install pkg-config libdpdk-dev".to_owned()
            }
            _ => "apt-get install libdpdk-dev (pkg-config did not find libdpdk)".to_owned(),
        };
        fail(&format!("dpdk-sys needs DPDK {OLDEST} or newer: {why}"));
    }
    let flags = compiler_flags();

    // Without libclang bindgen panics; the panic's text is long and does not name the package.
    panic::set_hook(Box::new(|_| {}));
    let clang = panic::catch_unwind(bindgen::clang_version);
    let _ = panic::take_hook();
    if clang.is_err() {
        fail("dpdk-sys needs libclang to read DPDK's headers: apt-get install clang libclang-dev");
    }

    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_else(|_| fail("cargo sets OUT_DIR")));
    let wrappers = out.join("wrappers.c");
    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&flags)
        .allowlist_item("_?rte_.*")
        .allowlist_item("RTE_.*")
        .allowlist_item("(LCORE|SOCKET)_ID_ANY_")
        .allowlist_item("VHOST_USER_.*|VIRTIO_.*")
        // Packed types with aligned members, which Rust cannot express; weft does not look inside them.
        .opaque_type("rte_arp_.*|rte_l2tpv2_.*|rte_gtp_.*")
        .wrap_static_fns(true)
        .wrap_static_fns_path(&wrappers)
        .wrap_static_fns_suffix("__inline")
        // va_list cannot be passed on.
        .blocklist_function("rte_vlog")
        // Takes a vector by value, which Rust has no name for here.
        .blocklist_function("rte_lpm_lookupx4")
        // Thread-local in C; bindgen would bind them as plain statics. Not reachable from Rust on purpose.
        .blocklist_var("per_lcore_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .derive_debug(false)
        .layout_tests(false)
        .generate_comments(false)
        .formatter(bindgen::Formatter::None)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(reason) => fail(&format!(
            "dpdk-sys could not read DPDK's headers; if a standard header such as stddef.h is missing, \
             apt-get install clang: {reason}"
        )),
    };
    if let Err(reason) = bindings.write_to_file(out.join("bindings.rs")) {
        fail(&format!(
            "cannot write the bindings to {}: {reason}",
            out.display()
        ));
    }

    let mut compiler = cc::Build::new();
    compiler
        .file(&wrappers)
        .include(".")
        .opt_level(3)
        .debug(false)
        .warnings(false);
    for flag in flags {
        compiler.flag(flag);
    }
    compiler.compile("dpdk_inlines");
}

/// All of pkg-config's cflags: the pkg-config crate keeps back `-include` and `-march`, and both matter here.
fn compiler_flags() -> Vec<String> {
    let pkg_config = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(pkg_config).args(["--cflags", "libdpdk"]).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        _ => fail("pkg-config --cflags libdpdk failed, though it found libdpdk"),
    }
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    process::exit(1)
}
