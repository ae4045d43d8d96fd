#!/bin/sh
# rustdoc with its JSON, which is not stable yet; any toolchain has it. Only rustdoc sees the variable: build
# scripts that look at it would be run again, and all crates above them built anew.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
