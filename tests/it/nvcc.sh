#!/bin/sh
# Stands in for nvcc in tests/it/build.rs: writes down its call in $CALLS, repeats warnings in the
# source, fails on sources that say `error`, and otherwise calls a copy of the source its output.
if [ "$1" = --version ]; then
    echo "Cuda compilation tools, release 13.0, V${FAKE_VERSION:-13.0.88}"
    exit
fi
echo "$0 $*" >>"$CALLS"
for argument; do
    [ "$previous" = -o ] && image=$argument
    previous=$argument
done
grep warning "$argument" >&2
if grep error "$argument" >&2; then exit 2; fi
echo "ptxas info for $argument" >&2
cp "$argument" "$image"
