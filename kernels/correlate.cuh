// y[row] (+)= sum over taps and channels of filter[tap][channel][row] * f(x[channel]) shifted by the
// tap: the forward pass of every convolution and, with mirrored taps and exchanged channels, its
// data gradient. f is the identity or ReLU.
//
// An implicit matrix product per group: BM channels of the result times BN = 128 consecutive
// positions of the plane, summed over taps (outer) and BK channels at a time (inner). A stage is
// one tap and BK channels: a tile of the packed filter and a tile of x, which is a plain copy of
// runs of memory, since a tap is a shift. Stages are double buffered: the next one is loaded into
// registers while this one is multiplied. Taps that no position of the tile can use are skipped.
//
// Tile sizes: each of 128 threads holds BM / 8 x 8 sums, 64 of them at BM = 64: four times as many
// multiply-adds as floats read from shared memory, at four blocks a multiprocessor. 128 positions
// are one 16-byte load for each lane of a warp. Narrower tiles are for groups of few channels and
// take BK = 16 so that a barrier still covers enough work. Rows are padded by 8 floats, which
// makes the fragment loads of the tensor cores free of bank conflicts.
//
// Where a plane has too few tiles to fill a GPU, the sum is cut into `part_count` ranges of stages
// (chosen by shape), each stored in `parts`, and added in order by `reduce_parts`.
#pragma once
#include "filter.cuh"
#include "mma.cuh"
#include "planes.cuh"

constexpr int BN = 128;

// The sum, without where its operands lie.
template <class Planes>
struct Correlation {
  Planes geometry;
  const float* filter;  // [group][tap][depth][rows, filled up to a multiple of 4]
  float* parts;         // [part][row of all groups][plane], if part_count > 1
  int rows, depth;      // channels produced and consumed per group
  int groups, part_count;
};

// Where a result goes that is not a part: slope 1 is no activation.
struct Finish {
  float slope;
  bool add;
  template <int V>
  __device__ __forceinline__ void put(float* to, Vec<V> sum) const {
    if (add) {
      const Vec<V> old = load<V>(to);
      UNROLL for (int e = 0; e < V; e++) sum.at[e] += old.at[e];
    }
    UNROLL for (int e = 0; e < V; e++) sum.at[e] = sum.at[e] > 0.f ? sum.at[e] : slope * sum.at[e];
    store<V>(to, sum);
  }
};

// Results to channels that follow one another in memory.
struct ChannelSink {
  float* base;
  int plane;
  Finish finish;
  template <int V>
  __device__ __forceinline__ void put(int row, int j, const Vec<V>& sum) const {
    finish.put<V>(base + size_t(row) * plane + j, sum);
  }
};

// Gradients of the views of a pointwise convolution: a target for each view, with its own bit in
// `add`; with `relu`, only where the view itself is positive.
template <class Params>
struct TargetSink {
  const Params& p;
  template <int V>
  __device__ __forceinline__ void put(int row, int j, Vec<V> sum) const {
    const int view = find_view(p, row);
    const size_t at = offset_in_view(p, view, row) + j;
    if (p.relu) {
      const Vec<V> x = load<V>(p.views[view] + at);
      UNROLL for (int e = 0; e < V; e++) sum.at[e] = x.at[e] > 0.f ? sum.at[e] : 0.f;
    }
    Finish{1.f, adds(p, view)}.template put<V>(p.targets[view] + at, sum);
  }
};

// Walks over the stages of a part as one thread sees them; all threads of a block agree on
// everything but `inside`.
template <int BK, class Planes>
struct Stages {
  const Planes& geometry;
  const typename Planes::Tile tile;
  typename Planes::Pixel pixel;  // whose input this thread loads
  int chunks;           // stages of a tap
  int end, stage, tap, chunk;
  int shift;            // of the tap, in floats
  bool inside;          // the input of this thread's pixel exists

  __device__ __forceinline__ Stages(const Correlation<Planes>& c, int tile_start, int j, int part)
      : geometry(c.geometry),
        tile(c.geometry, tile_start, min(tile_start + BN, c.geometry.plane()) - 1),
        pixel(c.geometry.pixel(j)) {
    chunks = (c.depth + BK - 1) / BK;
    const int all = geometry.taps() * chunks;
    stage = all * part / c.part_count;
    end = all * (part + 1) / c.part_count;
    tap = stage / chunks;
    chunk = stage % chunks;
    enter();
  }
  __device__ __forceinline__ bool more() const { return stage < end; }
  __device__ __forceinline__ void next() {
    stage++;
    if (++chunk == chunks) {
      chunk = 0;
      tap++;
      enter();
    }
  }

 private:
  // Moves to the first tap of use and works out what it means for this thread.
  __device__ __forceinline__ void enter() {
    while (stage < end && !tile.use(geometry, tap)) {
      stage += chunks - chunk;
      chunk = 0;
      tap++;
    }
    shift = geometry.shift(tap);
    inside = geometry.inside(pixel, tap);
  }
};

template <int BM, int BK>
struct alignas(16) StageTiles {
  float filter[BK][BM + 8];
  float x[BK][BN + 8];
};

// BM x BN sums of 128 threads in f32. A thread holds 4 neighbouring columns of each half.
template <int BM>
struct FloatTile {
  static constexpr int TM = BM / 8, W = TM < 4 ? TM : 4;
  float sums[TM][8] = {};

  __device__ __forceinline__ static float operand(float x) { return x; }

  template <int BK>
  __device__ __forceinline__ void multiply(const StageTiles<BM, BK>& tiles) {
    const int m = threadIdx.x / 16 * TM, n = threadIdx.x % 16 * 4;
    UNROLL for (int k = 0; k < BK; k++) {
      float a[TM], b[8];
      UNROLL for (int i = 0; i < TM; i += W) {
        const Vec<W> rows = load<W>(&tiles.filter[k][m + i]);
        UNROLL for (int e = 0; e < W; e++) a[i + e] = rows.at[e];
      }
      UNROLL for (int half = 0; half < 2; half++) {
        const Vec<4> columns = load<4>(&tiles.x[k][half * (BN / 2) + n]);
        UNROLL for (int e = 0; e < 4; e++) b[half * 4 + e] = columns.at[e];
      }
      UNROLL for (int i = 0; i < TM; i++) {
        UNROLL for (int j = 0; j < 8; j++) sums[i][j] += a[i] * b[j];
      }
    }
  }

  // Calls put(row, column, sums) for everything this thread holds.
  template <int V, class Put>
  __device__ __forceinline__ void each(Put put) const {
    const int m = threadIdx.x / 16 * TM, n = threadIdx.x % 16 * 4;
    UNROLL for (int i = 0; i < TM; i++) {
      UNROLL for (int j = 0; j < 8; j += V) {
        Vec<V> v;
        UNROLL for (int e = 0; e < V; e++) v.at[e] = sums[i][j + e];
        put(m + i, j / 4 * (BN / 2) + n + j % 4, v);
      }
    }
  }
};

// The same on the tensor cores: 2 x 2 warps, each BM / 2 x 64 sums in tiles of 16 x 8.
template <int BM>
struct Tf32Tile {
  static constexpr int MT = BM / 32;
  float sums[MT][8][4] = {};

  __device__ __forceinline__ static float operand(float x) { return __uint_as_float(to_tf32(x)); }

  template <int BK>
  __device__ __forceinline__ void multiply(const StageTiles<BM, BK>& tiles) {
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int m = warp / 2 * (BM / 2) + g, n = warp % 2 * 64 + g;
    UNROLL for (int k = t; k < BK + t; k += 8) {
      uint32_t a[MT][4];
      UNROLL for (int i = 0; i < MT; i++) {
        UNROLL for (int e = 0; e < 4; e++)
          a[i][e] = __float_as_uint(tiles.filter[k + e / 2 * 4][m + i * 16 + e % 2 * 8]);
      }
      UNROLL for (int j = 0; j < 8; j++) {
        const uint32_t b[2] = {__float_as_uint(tiles.x[k][n + j * 8]),
                               __float_as_uint(tiles.x[k + 4][n + j * 8])};
        UNROLL for (int i = 0; i < MT; i++) mma_m16n8k8_tf32(sums[i][j], a[i], b);
      }
    }
  }

  template <int V, class Put>
  __device__ __forceinline__ void each(Put put) const {
    constexpr int W = V < 2 ? V : 2;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int m = warp / 2 * (BM / 2) + g, n = warp % 2 * 64 + t * 2;
    UNROLL for (int i = 0; i < MT; i++) {
      UNROLL for (int j = 0; j < 8; j++) {
        UNROLL for (int e = 0; e < 4; e += W) {
          Vec<W> v;
          UNROLL for (int o = 0; o < W; o++) v.at[o] = sums[i][j][e + o];
          put(m + i * 16 + e / 2 * 8, n + j * 8 + e % 2, v);
        }
      }
    }
  }
};

// What one thread carries from global to shared memory for a stage: V columns of some channels
// and up to 4 rows of the filter at a time.
template <int BM, int BK, int V>
struct Carrier {
  static constexpr int LANES = BN / V, X = BK * LANES / 128;
  static constexpr int QUADS = BM / 4, F = (BK * QUADS + 127) / 128;
  Vec<V> x[X];
  Vec<4> filter[F];

  __device__ __forceinline__ static int column() { return threadIdx.x % LANES * V; }

  template <class Planes, class Source>
  __device__ __forceinline__ void fetch(const Correlation<Planes>& c, const Stages<BK, Planes>& s,
                                        Source& source, int j, int group, int first_row) {
    const int channel = s.chunk * BK, left = c.depth - channel;
    UNROLL for (int i = 0; i < X; i++) {
      const int k = threadIdx.x / LANES + i * (128 / LANES);
      if (s.inside && k < left) {
        x[i] = load<V>(source.channel(group * c.depth + channel + k) + j + s.shift);
      } else {
        UNROLL for (int e = 0; e < V; e++) x[i].at[e] = 0.f;
      }
    }
    const int padded = padded_rows(c.rows);
    const float* from =
        c.filter + size_t((group * c.geometry.taps() + s.tap) * c.depth + channel) * padded;
    UNROLL for (int i = 0; i < F; i++) {
      const int at = threadIdx.x + i * 128, k = at / QUADS, row = first_row + at % QUADS * 4;
      if (k < min(left, BK) && row < padded) {
        filter[i] = load<4>(from + k * padded + row);
      } else {
        UNROLL for (int e = 0; e < 4; e++) filter[i].at[e] = 0.f;
      }
    }
  }

  template <class Tile, class Source>
  __device__ __forceinline__ void put_down(StageTiles<BM, BK>& tiles, const Source& source) {
    UNROLL for (int i = 0; i < X; i++) {
      UNROLL for (int e = 0; e < V; e++) x[i].at[e] = Tile::operand(source.value(x[i].at[e]));
      store<V>(&tiles.x[threadIdx.x / LANES + i * (128 / LANES)][column()], x[i]);
    }
    UNROLL for (int i = 0; i < F; i++) {
      const int at = threadIdx.x + i * 128;
      UNROLL for (int e = 0; e < 4; e++) filter[i].at[e] = Tile::operand(filter[i].at[e]);
      if (at < BK * QUADS) store<4>(&tiles.filter[at / QUADS][at % QUADS * 4], filter[i]);
    }
  }
};

// Blocks of 128 threads: x counts tiles of BN positions, y tiles of BM rows, z group * parts + part.
// V divides N (the plane, for pointwise), and all addresses are aligned to V floats.
template <template <int> class Sums, int BM, int BK, int V, class Planes, class Source, class Sink>
__device__ __forceinline__ void correlate(const Correlation<Planes>& c, Source source,
                                          const Sink& sink) {
  __shared__ StageTiles<BM, BK> tiles[2];
  const int tile_start = blockIdx.x * BN, first_row = blockIdx.y * BM;
  const int group = blockIdx.z / c.part_count, part = blockIdx.z % c.part_count;
  const int j = tile_start + Carrier<BM, BK, V>::column();
  Carrier<BM, BK, V> carrier;
  Sums<BM> sums;
  Stages<BK, Planes> stages(c, tile_start, j, part);
  int buffer = 0;
  bool more = stages.more();
  if (more) {
    carrier.fetch(c, stages, source, j, group, first_row);
    carrier.template put_down<Sums<BM>>(tiles[0], source);
  }
  __syncthreads();
  while (more) {
    stages.next();
    more = stages.more();
    if (more) carrier.fetch(c, stages, source, j, group, first_row);
    sums.multiply(tiles[buffer]);
    if (more) carrier.template put_down<Sums<BM>>(tiles[buffer ^ 1], source);
    __syncthreads();
    buffer ^= 1;
  }
  const int plane = c.geometry.plane();
  sums.template each<V>([&](int m, int n, const auto& v) {
    const int row = first_row + m, at = tile_start + n;
    if (row >= c.rows || at >= plane) return;
    constexpr int W = sizeof(v) / sizeof(float);
    const int y_row = group * c.rows + row;
    if (c.part_count > 1)
      store<W>(c.parts + (size_t(part) * c.groups * c.rows + y_row) * plane + at, v);
    else
      sink.template put<W>(y_row, at, v);
  });
}

// For groups of few channels: a thread holds ROWS channels of V positions in registers and reads
// x and the filter through the cache. Blocks of 128 threads: x counts 128 * V positions, y tiles
// of ROWS rows, z groups. part_count is 1.
template <int ROWS, int V, class Planes, class Sink>
__device__ __forceinline__ void correlate_direct(const Correlation<Planes>& c, const Channels& source,
                                                 const Sink& sink) {
  constexpr int AHEAD = 4;  // channels loaded before the first is used
  const Planes& g = c.geometry;
  const int j = (blockIdx.x * 128 + threadIdx.x) * V, first_row = blockIdx.y * ROWS;
  const int group = blockIdx.z, plane = g.plane(), padded = padded_rows(c.rows);
  if (j >= plane) return;
  const typename Planes::Pixel pixel = g.pixel(j);
  Vec<V> sums[ROWS] = {};
  for (int tap = 0; tap < g.taps(); tap++) {
    if (!g.inside(pixel, tap)) continue;
    const float* x = source.channel(group * c.depth) + j + g.shift(tap);
    const float* filter = c.filter + size_t(group * g.taps() + tap) * c.depth * padded + first_row;
    for (int d = 0; d < c.depth; d += AHEAD) {
      Vec<V> ahead[AHEAD] = {};
      UNROLL for (int i = 0; i < AHEAD; i++)
        if (d + i < c.depth) ahead[i] = load<V>(x + size_t(d + i) * plane);
      UNROLL for (int i = 0; i < AHEAD; i++) {
        if (d + i >= c.depth) break;
        UNROLL for (int r = 0; r < ROWS; r += 4) {
          if (first_row + r >= padded) break;
          const Vec<4> w = load<4>(filter + (d + i) * padded + r);
          UNROLL for (int e = 0; e < 4; e++)
            UNROLL for (int v = 0; v < V; v++) sums[r + e].at[v] += w.at[e] * ahead[i].at[v];
        }
      }
    }
  }
  UNROLL for (int r = 0; r < ROWS; r++)
    if (first_row + r < c.rows)
      sink.template put<V>(group * c.rows + first_row + r, j, sums[r]);
}

// Adds the parts in order. One thread an element of the result; blocks of 256.
template <class Planes, class Sink>
__device__ __forceinline__ void reduce_parts(const Correlation<Planes>& c, const Sink& sink) {
  const int plane = c.geometry.plane();
  const size_t len = size_t(c.groups) * c.rows * plane, i = size_t(blockIdx.x) * 256 + threadIdx.x;
  if (i >= len) return;
  Vec<1> sum = {0.f};
  for (int part = 0; part < c.part_count; part++) sum.at[0] += c.parts[part * len + i];
  sink.template put<1>(int(i / plane), int(i % plane), sum);
}
