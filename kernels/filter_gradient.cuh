// part[tap][k][c] = sum over a range of positions j of gy[k][j] * f(x[c][j + shift of the tap]): the
// weight gradient of every convolution, to be added over the parts (filter.cuh).
//
// A matrix product per group and tap, M output channels by M input channels, summed over the
// positions whose input exists under the tap: those are runs of memory (whole rows of the picture
// but for |shift| pixels), so padding is neither stored, loaded nor multiplied. Both operands are
// contiguous along the sum, so tiles are stored as [channel][position], and a thread multiplies
// four positions at a time. The positions are cut into `part_count` ranges, chosen by shape.
//
// Tile sizes: 64 x 64 sums are 8 x 4 for each of 128 threads, 32 x 32 are 4 x 4 for 64 threads; a
// stage of BJ = 16 positions is 16 floats a thread in flight. Rows are padded by 4 floats: lanes that read
// neighbouring rows, and the fragments of the tensor cores, hit distinct banks.
#pragma once
#include "mma.cuh"
#include "planes.cuh"

constexpr int BJ = 16;

template <class Planes>
struct FilterGradient {
  Planes geometry;
  const float* gy;
  float* parts;  // [part][tap][k of all groups][c]
  int groups, out_len, in_len, part_count;

  __device__ __forceinline__ float* at(int part, int tap, int k, int c) const {
    const size_t row = (size_t(part) * geometry.taps() + tap) * groups * out_len + k;
    return parts + row * in_len + c;
  }
};

// A walk over the positions of the output whose input under a tap exists, STEP positions at a time.
template <int STEP, class Planes>
struct Runs {
  typename Planes::Lines lines;
  int shift;        // from gy to x
  int run, offset;  // where this thread is
  int steps;        // that are left

  // `lane`: the thread's position within a step.
  __device__ __forceinline__ Runs(const FilterGradient<Planes>& f, int tap, int part, int lane)
      : lines(f.geometry.lines(tap)), shift(f.geometry.shift(tap)) {
    const int len = lines.len;
    const int all = len > 0 ? (lines.count * len + STEP - 1) / STEP : 0;
    // In 64 bits: steps times parts.
    const int begin = int(int64_t(all) * part / f.part_count);
    steps = int(int64_t(all) * (part + 1) / f.part_count) - begin;
    const int start = begin * STEP + lane;
    run = steps > 0 ? start / len : 0;
    offset = start - run * len;
  }
  __device__ __forceinline__ bool more() const { return steps > 0; }
  // False in the last step beyond the last run.
  __device__ __forceinline__ bool inside() const { return run < lines.count; }
  // Of gy; `shift` further in x.
  __device__ __forceinline__ int position() const { return lines.at(run) + offset; }
  __device__ __forceinline__ void next() {
    steps--;
    offset += STEP;
    while (offset >= lines.len && run < lines.count) {
      offset -= lines.len;
      run++;
    }
  }
};

template <int M>
struct alignas(16) GradientTiles {
  float gy[M][BJ + 4];
  float x[M][BJ + 4];
};

// M x M sums in f32: rows and columns of a thread are spread over the tile, so that neighbouring
// lanes have neighbouring ones.
template <int M>
struct FloatDots {
  static constexpr int TM = M / 8, TN = 4, COLUMNS = M / TN, THREADS = 8 * COLUMNS;
  float sums[TM][TN] = {};

  __device__ __forceinline__ static float operand(float x) { return x; }

  __device__ __forceinline__ void multiply(const GradientTiles<M>& tiles) {
    const int m = threadIdx.x / COLUMNS, n = threadIdx.x % COLUMNS;
    UNROLL for (int j = 0; j < BJ; j += 4) {
      Vec<4> a[TM];
      UNROLL for (int i = 0; i < TM; i++) a[i] = load<4>(&tiles.gy[m + i * 8][j]);
      UNROLL for (int c = 0; c < TN; c++) {
        const Vec<4> b = load<4>(&tiles.x[n + c * COLUMNS][j]);
        UNROLL for (int i = 0; i < TM; i++) {
          UNROLL for (int e = 0; e < 4; e++) sums[i][c] += a[i].at[e] * b.at[e];
        }
      }
    }
  }

  template <class Put>
  __device__ __forceinline__ void each(Put put) const {
    const int m = threadIdx.x / COLUMNS, n = threadIdx.x % COLUMNS;
    UNROLL for (int i = 0; i < TM; i++) {
      UNROLL for (int c = 0; c < TN; c++) put(m + i * 8, n + c * COLUMNS, sums[i][c]);
    }
  }
};

// The same on the tensor cores: 2 x 2 warps, each M / 2 x M / 2 sums in tiles of 16 x 8.
template <int M>
struct Tf32Dots {
  static constexpr int MT = M / 32, NT = M / 16, THREADS = 128;
  float sums[MT][NT][4] = {};

  __device__ __forceinline__ static float operand(float x) { return __uint_as_float(to_tf32(x)); }

  __device__ __forceinline__ void multiply(const GradientTiles<M>& tiles) {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int m = warp / 2 * (M / 2) + g, n = warp % 2 * (M / 2) + g;
    UNROLL for (int j = t; j < BJ + t; j += 8) {
      uint32_t a[MT][4];
      UNROLL for (int i = 0; i < MT; i++) {
        UNROLL for (int e = 0; e < 4; e++)
          a[i][e] = __float_as_uint(tiles.gy[m + i * 16 + e % 2 * 8][j + e / 2 * 4]);
      }
      UNROLL for (int c = 0; c < NT; c++) {
        const uint32_t b[2] = {__float_as_uint(tiles.x[n + c * 8][j]),
                               __float_as_uint(tiles.x[n + c * 8][j + 4])};
        UNROLL for (int i = 0; i < MT; i++) mma_m16n8k8_tf32(sums[i][c], a[i], b);
      }
    }
  }

  template <class Put>
  __device__ __forceinline__ void each(Put put) const {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int m = warp / 2 * (M / 2) + g, n = warp % 2 * (M / 2) + t * 2;
    UNROLL for (int i = 0; i < MT; i++) {
      UNROLL for (int c = 0; c < NT; c++) {
        UNROLL for (int e = 0; e < 4; e++)
          put(m + i * 16 + e / 2 * 8, n + c * 8 + e % 2, sums[i][c][e]);
      }
    }
  }
};

// Blocks of Dots<M>::THREADS: x counts tiles of M x M channels (input channels fastest), y
// group * taps + tap, z parts. V divides N (the plane, for pointwise), and all addresses are
// aligned to V floats.
template <template <int> class Dots, int M, int V, class Planes, class Source>
__device__ __forceinline__ void filter_gradient(const FilterGradient<Planes>& f, Source source) {
  constexpr int LANES = BJ / V, AT_ONCE = Dots<M>::THREADS / LANES, TURNS = M / AT_ONCE;
  __shared__ GradientTiles<M> tiles[2];
  __shared__ const float* planes[2][M];  // of gy and x; null beyond the channels
  const int across = (f.in_len + M - 1) / M;
  const int first_k = blockIdx.x / across * M, first_c = blockIdx.x % across * M;
  const int group = blockIdx.y / f.geometry.taps(), tap = blockIdx.y % f.geometry.taps();
  const int plane = f.geometry.plane();
  for (int i = threadIdx.x; i < M; i += Dots<M>::THREADS) {
    const int k = first_k + i, c = first_c + i;
    planes[0][i] = k < f.out_len ? f.gy + size_t(group * f.out_len + k) * plane : nullptr;
    planes[1][i] = c < f.in_len ? source.channel(group * f.in_len + c) : nullptr;
  }
  __syncthreads();

  const int lane = threadIdx.x % LANES * V, row = threadIdx.x / LANES;
  Runs<BJ, Planes> runs(f, tap, blockIdx.z, lane);
  Vec<V> gy[TURNS], x[TURNS];
  const auto fetch = [&]() {
    const int j = runs.position();
    UNROLL for (int i = 0; i < TURNS; i++) {
      const float* from_gy = planes[0][row + i * AT_ONCE];
      const float* from_x = planes[1][row + i * AT_ONCE];
      UNROLL for (int e = 0; e < V; e++) gy[i].at[e] = x[i].at[e] = 0.f;
      if (runs.inside() && from_gy) gy[i] = load<V>(from_gy + j);
      if (runs.inside() && from_x) x[i] = load<V>(from_x + j + runs.shift);
    }
  };
  const auto put_down = [&](GradientTiles<M>& to) {
    UNROLL for (int i = 0; i < TURNS; i++) {
      UNROLL for (int e = 0; e < V; e++) {
        gy[i].at[e] = Dots<M>::operand(gy[i].at[e]);
        x[i].at[e] = Dots<M>::operand(source.value(x[i].at[e]));
      }
      store<V>(&to.gy[row + i * AT_ONCE][lane], gy[i]);
      store<V>(&to.x[row + i * AT_ONCE][lane], x[i]);
    }
  };

  Dots<M> sums;
  int buffer = 0;
  bool more = runs.more();
  if (more) {
    fetch();
    put_down(tiles[0]);
  }
  __syncthreads();
  while (more) {
    runs.next();
    more = runs.more();
    if (more) fetch();
    sums.multiply(tiles[buffer]);
    if (more) put_down(tiles[buffer ^ 1]);
    __syncthreads();
    buffer ^= 1;
  }
  sums.each([&](int m, int n, float sum) {
    const int k = first_k + m, c = first_c + n;
    if (k < f.out_len && c < f.in_len) *f.at(blockIdx.z, tap, group * f.out_len + k, c) = sum;
  });
}

// For few channels: 4 x 4 channels a block, each thread sums its own positions in registers. Blocks
// of 128 threads: x counts tiles of 4 x 4 channels (input channels fastest), y group * taps + tap,
// z parts.
template <int V, class Planes>
__device__ __forceinline__ void filter_gradient_direct(const FilterGradient<Planes>& f,
                                                       const Channels& source) {
  const int across = (f.in_len + 3) / 4;
  const int first_k = blockIdx.x / across * 4, first_c = blockIdx.x % across * 4;
  const int group = blockIdx.y / f.geometry.taps(), tap = blockIdx.y % f.geometry.taps();
  const int plane = f.geometry.plane();
  // Beyond the channels the last one is read again, and its sum dropped.
  const float *gy[4], *x[4];
  Runs<128 * V, Planes> runs(f, tap, blockIdx.z, threadIdx.x * V);
  UNROLL for (int i = 0; i < 4; i++) {
    gy[i] = f.gy + size_t(group * f.out_len + min(first_k + i, f.out_len - 1)) * plane;
    x[i] = source.channel(group * f.in_len + min(first_c + i, f.in_len - 1)) + runs.shift;
  }
  float sums[16] = {};
  for (; runs.more(); runs.next()) {
    if (!runs.inside()) continue;
    const int j = runs.position();
    Vec<V> a[4], b[4];
    UNROLL for (int i = 0; i < 4; i++) {
      a[i] = load<V>(gy[i] + j);
      b[i] = load<V>(x[i] + j);
    }
    UNROLL for (int i = 0; i < 16; i++) {
      UNROLL for (int e = 0; e < V; e++) sums[i] += a[i / 4].at[e] * b[i % 4].at[e];
    }
  }
  __shared__ float warps[4][16];
  UNROLL for (int i = 0; i < 16; i++) {
    const float sum = warp_sum(sums[i]);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32][i] = sum;
  }
  __syncthreads();
  const int k = first_k + threadIdx.x / 4, c = first_c + threadIdx.x % 4;
  if (threadIdx.x < 16 && k < f.out_len && c < f.in_len) {
    float sum = 0.f;
    UNROLL for (int warp = 0; warp < 4; warp++) sum += warps[warp][threadIdx.x];
    *f.at(blockIdx.z, tap, group * f.out_len + k, c) = sum;
  }
}
