// adam: the update of all parameters of a range (Kingma & Ba 2014).
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
  uint32_t undecayed;  // parameters at the start without weight decay
  uint32_t len;
};
SMASH_PARAMS(AdamParams, w, gradient, first, second, loss, rates, beta1, beta2, epsilon, decay, undecayed, len)

struct Update {
  template <int V>
  static __device__ void at(const AdamParams& p, uint32_t i) {
    const float lr = p.rates[0], c1 = p.rates[1], c2 = p.rates[2];
    Vec<V> w = load<V>(p.w + i), m = load<V>(p.first + i), v = load<V>(p.second + i);
    const Vec<V> gradient = load<V>(p.gradient + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float g = gradient.at[j] + (i + j < p.undecayed ? 0.f : p.decay) * w.at[j];
      m.at[j] += (1.f - p.beta1) * (g - m.at[j]);
      v.at[j] = p.beta2 * v.at[j] + (1.f - p.beta2) * g * g;
      w.at[j] -= lr * (m.at[j] / c1) / (sqrtf(v.at[j] / c2) + p.epsilon);
    }
    store<V>(p.w + i, w);
    store<V>(p.first + i, m);
    store<V>(p.second + i, v);
  }
};

SMASH_KERNEL(256, adam_update, AdamParams) {
  if (isfinite(*p.loss)) each_element<Update>(p, p.len, aligned16(p.w, p.gradient, p.first, p.second));
}
