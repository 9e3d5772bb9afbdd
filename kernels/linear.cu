// linear: y[k][n] = b[k] + sum over c of w[k][c] * x[c][n], and its gradients. Far too small for
// tiles; what counts is that no thread waits for a long chain of loads.
#include "common.cuh"

struct LinearForwardParams {
  const float* x;  // [channels, batch]
  const float* w;  // [classes, stored], of which the first `channels` columns are used
  const float* b;
  float* y;        // [classes, batch]
  int32_t channels, stored, batch;
};
SMASH_PARAMS(LinearForwardParams, x, w, b, y, channels, stored, batch)

struct LinearBackwardParams {
  const float* x;
  const float* w;
  const float* gy;
  float* out;      // the gradient asked for
  int32_t channels, stored, classes, batch;
  int32_t add;     // 1: out is added to; those of w and b always are
};
SMASH_PARAMS(LinearBackwardParams, x, w, gy, out, channels, stored, classes, batch, add)

// Block (k, 32 images); warp i takes every eighth channel from i, and the first adds the parts.
SMASH_KERNEL(256, linear_forward, LinearForwardParams) {
  __shared__ float parts[8][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int k = blockIdx.x, n = blockIdx.y * 32 + lane;
  const float* w = p.w + size_t(k) * p.stored;
  float sum = 0.f;
  if (n < p.batch) {
    for (int c = warp; c < p.channels; c += 8) sum += w[c] * p.x[size_t(c) * p.batch + n];
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && n < p.batch) {
    float y = p.b[k];
    UNROLL for (int i = 0; i < 8; i++) y += parts[i][lane];
    p.y[size_t(k) * p.batch + n] = y;
  }
}

// gw[k][c] += sum over n of gy[k][n] * x[c][n]; one warp each
SMASH_KERNEL(256, linear_backward_weight, LinearBackwardParams) {
  const int item = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (item >= p.classes * p.channels) return;
  const int k = item / p.channels, c = item % p.channels;
  float sum = 0.f;
  for (int n = lane; n < p.batch; n += 32) {
    sum += p.gy[size_t(k) * p.batch + n] * p.x[size_t(c) * p.batch + n];
  }
  sum = warp_sum(sum);
  if (lane == 0) p.out[size_t(k) * p.stored + c] += sum;
}

// gb[k] += sum over n of gy[k][n]; one warp each
SMASH_KERNEL(256, linear_backward_bias, LinearBackwardParams) {
  const int k = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (k >= p.classes) return;
  float sum = 0.f;
  for (int n = lane; n < p.batch; n += 32) sum += p.gy[size_t(k) * p.batch + n];
  sum = warp_sum(sum);
  if (lane == 0) p.out[k] += sum;
}

// gx[c][n] (+)= sum over k of w[k][c] * gy[k][n]; one thread each
SMASH_KERNEL(256, linear_backward_data, LinearBackwardParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= uint32_t(p.channels) * p.batch) return;
  const int c = i / p.batch, n = i % p.batch;
  float sum = p.add ? p.out[i] : 0.f;
  for (int k = 0; k < p.classes; k++) {
    sum += p.w[size_t(k) * p.stored + c] * p.gy[size_t(k) * p.batch + n];
  }
  p.out[i] = sum;
}
