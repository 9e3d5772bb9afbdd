// adam: the update of all parameters of a range, one thread each (Kingma & Ba 2014).
//
// With g = gradient + decay * w:  m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,
// w -= lr * (m / c1) / (sqrt(v / c2) + eps),  [lr, c1, c2] = rates.
// Nothing happens when the loss is not finite: the CPU, which runs ahead, learns of it later.
#include "common.cuh"

struct AdamParams {
  float* w;
  const float* gradient;
  float* first;
  float* second;
  const float* loss;
  const float* rates;
  float beta1;
  float beta2;
  float epsilon;
  float decay;
  uint32_t len;
};
SMASH_PARAMS(AdamParams, w, gradient, first, second, loss, rates, beta1, beta2, epsilon, decay, len)

SMASH_KERNEL(256, adam_update, AdamParams) {
  const uint32_t i = blockIdx.x * 256u + threadIdx.x;
  if (i >= p.len || !isfinite(*p.loss)) return;
  const float lr = p.rates[0], c1 = p.rates[1], c2 = p.rates[2];
  const float w = p.w[i];
  const float g = p.gradient[i] + p.decay * w;
  const float m = p.first[i] + (1.f - p.beta1) * (g - p.first[i]);
  const float v = p.beta2 * p.second[i] + (1.f - p.beta2) * g * g;
  p.first[i] = m;
  p.second[i] = v;
  p.w[i] = w - lr * (m / c1) / (sqrtf(v / c2) + p.epsilon);
}
