// sgd: stochastic gradient descent with Nesterov momentum, one thread per parameter.
//
// With g = gradient + decay * w:  v = momentum * v + g,  w -= rate * (g + momentum * v).
// Nothing happens when the loss is not finite: the CPU, which runs ahead, learns of it later.
#include "common.cuh"

struct SgdParams {
  float* w;
  const float* gradient;
  float* velocity;
  const float* loss;
  const float* rate;
  float momentum;
  float decay;
  uint32_t len;
};
SMASH_PARAMS(SgdParams, w, gradient, velocity, loss, rate, momentum, decay, len)

SMASH_KERNEL(256, sgd_update, SgdParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len || !isfinite(*p.loss)) return;
  const float w = p.w[i];
  const float g = p.gradient[i] + p.decay * w;
  const float v = p.momentum * p.velocity[i] + g;
  p.velocity[i] = v;
  p.w[i] = w - *p.rate * (g + p.momentum * v);
}
