// ceiling: multiply-adds in registers and nothing else, to measure how many a second this GPU can do.
//
// Each thread works on independent chains, enough to hide the latency of one, and stores a sum so that
// no compiler can leave them out. What it computes is nobody's business.
#include "common.cuh"

struct CeilingParams {
  float* sums;
  uint32_t rounds;
};
SMASH_PARAMS(CeilingParams, sums, rounds)

// Chains a thread, and multiply-adds of a chain in a round: as in src/backend/cuda/ceiling.rs.
constexpr int CHAINS = 8, UNROLLED = 16;

SMASH_KERNEL(256, ceiling_multiply_adds, CeilingParams) {
  float chain[CHAINS];
  UNROLL for (int c = 0; c < CHAINS; c++) chain[c] = float(threadIdx.x + c);
  for (uint32_t round = 0; round < p.rounds; round++) {
    UNROLL for (int i = 0; i < UNROLLED; i++) {
      UNROLL for (int c = 0; c < CHAINS; c++) chain[c] = fmaf(chain[c], 0.999f, 0.5f);
    }
  }
  float sum = 0.f;
  UNROLL for (int c = 0; c < CHAINS; c++) sum += chain[c];
  p.sums[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
