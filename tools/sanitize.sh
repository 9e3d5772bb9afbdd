#!/usr/bin/env bash
# Runs checks of the CUDA kernels on the emulator, compiled for a sanitizer: address finds accesses
# outside arrays (those of shared memory too), addresses that vectors do not allow and undefined
# behaviour; thread finds races between the threads of a kernel, whatever order they ran in.
# Needs g++. What follows the first word goes to cargo, --release for example.
#
#     tools/sanitize.sh address|thread [FLAG ...]
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:?address or thread}
shift

runtime() {
  local found
  found=$("${CXX:-g++}" -print-file-name="$1")
  [[ $found == /* ]] || { echo "${CXX:-g++} has no $1" >&2; exit 1; }
  echo "$found"
}

# Every kernel file; of convolution every kind of kernel. Small shapes: a race is found 70 times slower.
checks=(
  activation::checks::on_cuda::the_kink
  adam::checks::on_cuda::the_first_step
  add::checks::on_cuda::channels_of_one
  avg_pool::checks::on_cuda::halves
  batch_gather::checks::on_cuda::values
  batchnorm::checks::on_cuda::a_constant
  concat::checks::on_cuda::views_follow
  conv2d::checks::on_cuda::plain_3x3
  conv3d::checks::on_cuda::plain_3x3x3
  cross_entropy::checks::on_cuda::ties
  gather_filters::checks::on_cuda::a_filter
  global_avg_pool::checks::on_cuda::averages
  linear::checks::on_cuda::multiplies
  max_pool::checks::on_cuda::keeps
  mean::checks::on_cuda::of_one
  pointwise::checks::on_cuda::operands_without
  sgd::checks::on_cuda::what_lies_outside
  subsample::checks::on_cuda::takes
  weightnorm::checks::on_cuda::a_filter
)

case $kind in
  address)
    preload=$(runtime libasan.so):$(runtime libubsan.so)
    # The emulator handles the faults of kernels itself; Rust's statics are no leaks.
    options=(ASAN_OPTIONS=detect_leaks=0:handle_segv=0:allow_user_segv_handler=1)
    ;;
  thread)
    preload=$(runtime libtsan.so)
    # Only kernels are instrumented, not what calls them. Without random addresses: it maps memory at fixed ones.
    options=(TSAN_OPTIONS=ignore_noninstrumented_modules=1:exitcode=66 setarch -R)
    ;;
  *)
    echo "address or thread, not $kind" >&2
    exit 2
    ;;
esac

tests=$(cargo test --lib --no-run --locked "$@" --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
log=$(mktemp)
trap 'rm -f "$log"' EXIT
env SMASH_TEST_EMULATOR=1 SMASH_SANITIZE="$kind" LD_PRELOAD="$preload" "${options[@]}" "$tests" "${checks[@]}" 2>&1 | tee "$log"
if grep -qE 'Sanitizer|runtime error' "$log"; then
  echo "the $kind sanitizer reports something" >&2
  exit 1
fi
# A name that is no longer there would select nothing.
for check in "${checks[@]}"; do
  grep -q "$check.* ok\$" "$log" || { echo "no check is called $check" >&2; exit 1; }
done
