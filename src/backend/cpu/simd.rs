//! One vector type per instruction set, chosen at run time.
//!
//! Micro-kernels are written once, generic over [`Simd`], always inlined, and instantiated
//! inside a function that carries the matching `#[target_feature]`: see `dispatch.rs`.

use std::str::FromStr;

/// Most lanes of a vector.
pub const MOST_LANES: usize = 16;

/// An instruction set the kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 16 lanes, 32 registers, masked loads.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes, 16 registers, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Plain Rust over 4 lanes, for every processor.
    Portable,
}

impl Isa {
    /// The instruction sets this machine runs, best first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// f32 per vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            Self::Portable => Portable::LANES,
        }
    }

    /// Most rows of a tile.
    pub fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::ROWS,
            Self::Portable => Portable::ROWS,
        }
    }

    /// Name as the user types and reads it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
            format!("{name:?} is not an instruction set of this machine (available: {})", names.join(", "))
        })
    }
}

/// Operations of one vector type.
///
/// # Safety
/// Every method needs the instruction set of its type, and valid pointers for the lanes it touches.
pub trait Simd: Copy {
    /// A vector of f32.
    type V: Copy;
    /// A choice of lanes.
    type M: Copy;
    /// f32 per vector.
    const LANES: usize;
    /// Most rows of a tile of accumulators that stay in registers with their operands.
    const ROWS: usize;

    /// Vectors of a tile of `rows` rows: with 32 registers up to 24 accumulators, with 16 up to 12.
    fn vectors(rows: usize) -> usize {
        match (Self::LANES, rows) {
            (16, ..=6) => 4,
            (16, _) | (_, ..=3) => 3,
            _ => 2,
        }
    }

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` consecutive f32.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes all lanes.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of `a` and `b`, lane by lane.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `v` where `gate > 0`, 0 elsewhere.
    unsafe fn gate(v: Self::V, gate: Self::V) -> Self::V;
    /// The sum of all lanes, in an order that is always the same.
    unsafe fn sum(v: Self::V) -> f32;
    /// Lanes `lo..hi`; bounds outside `0..=LANES` are cut.
    unsafe fn mask(lo: isize, hi: isize) -> Self::M;
    /// The chosen lanes, 0 in the others, whose memory is not touched.
    unsafe fn load_masked(p: *const f32, m: Self::M) -> Self::V;
    /// Writes the chosen lanes only.
    unsafe fn store_masked(p: *mut f32, m: Self::M, v: Self::V);
    /// Makes the columns of the first `LANES` vectors its rows.
    unsafe fn transpose(v: &mut [Self::V; MOST_LANES]);
}

/// 16 lanes of AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, MOST_LANES, Simd};
    use std::arch::x86_64::*;

    // SAFETY of the bodies below: the caller guarantees the instruction set and the pointers.
    impl Simd for Avx512 {
        type V = __m512;
        type M = __mmask16;
        const LANES: usize = 16;
        const ROWS: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn gate(v: __m512, gate: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn mask(lo: isize, hi: isize) -> __mmask16 {
            let below = |i: isize| (1u32 << i.clamp(0, 16)) - 1;
            (below(hi) & !below(lo)) as u16
        }
        #[inline(always)]
        unsafe fn load_masked(p: *const f32, m: __mmask16) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(m, p) }
        }
        #[inline(always)]
        unsafe fn store_masked(p: *mut f32, m: __mmask16, v: __m512) {
            unsafe { _mm512_mask_storeu_ps(p, m, v) }
        }
        #[inline(always)]
        unsafe fn transpose(v: &mut [__m512; MOST_LANES]) {
            unsafe {
                // 4x4 blocks of 4 rows each: afterwards block b of vector 4j + k is column 4b + k of rows 4j..4j+4.
                for j in 0..4 {
                    let [a, b, c, d] =
                        [v[4 * j], v[4 * j + 1], v[4 * j + 2], v[4 * j + 3]].map(|v| _mm512_castps_pd(v));
                    let halves = |x, y| {
                        let (x, y) = (_mm512_castpd_ps(x), _mm512_castpd_ps(y));
                        [_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y)].map(|v| _mm512_castps_pd(v))
                    };
                    let ([ab_low, ab_high], [cd_low, cd_high]) = (halves(a, b), halves(c, d));
                    v[4 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_low, cd_low));
                    v[4 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_low, cd_low));
                    v[4 * j + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
                    v[4 * j + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
                }
                // Then the blocks themselves.
                for k in 0..4 {
                    let (a, b, c, d) = (v[k], v[4 + k], v[8 + k], v[12 + k]);
                    let (ab_low, ab_high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                    let (cd_low, cd_high) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
                    v[k] = _mm512_shuffle_f32x4::<0x88>(ab_low, cd_low);
                    v[4 + k] = _mm512_shuffle_f32x4::<0xdd>(ab_low, cd_low);
                    v[8 + k] = _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high);
                    v[12 + k] = _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high);
                }
            }
        }
    }

    impl Simd for Avx2 {
        type V = __m256;
        type M = __m256i;
        const LANES: usize = 8;
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn gate(v: __m256, gate: __m256) -> __m256 {
            unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps())) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        unsafe fn mask(lo: isize, hi: isize) -> __m256i {
            unsafe {
                let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let lo = _mm256_set1_epi32(lo.clamp(-1, 9) as i32 - 1);
                let hi = _mm256_set1_epi32(hi.clamp(-1, 9) as i32);
                _mm256_and_si256(_mm256_cmpgt_epi32(lane, lo), _mm256_cmpgt_epi32(hi, lane))
            }
        }
        #[inline(always)]
        unsafe fn load_masked(p: *const f32, m: __m256i) -> __m256 {
            unsafe { _mm256_maskload_ps(p, m) }
        }
        #[inline(always)]
        unsafe fn store_masked(p: *mut f32, m: __m256i, v: __m256) {
            unsafe { _mm256_maskstore_ps(p, m, v) }
        }
        #[inline(always)]
        unsafe fn transpose(v: &mut [__m256; MOST_LANES]) {
            unsafe {
                for j in 0..2 {
                    let [a, b, c, d] = [v[4 * j], v[4 * j + 1], v[4 * j + 2], v[4 * j + 3]];
                    let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                    v[4 * j] = _mm256_shuffle_ps::<0x44>(ab_low, cd_low);
                    v[4 * j + 1] = _mm256_shuffle_ps::<0xee>(ab_low, cd_low);
                    v[4 * j + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
                    v[4 * j + 3] = _mm256_shuffle_ps::<0xee>(ab_high, cd_high);
                }
                for k in 0..4 {
                    let (a, b) = (v[k], v[4 + k]);
                    v[k] = _mm256_permute2f128_ps::<0x20>(a, b);
                    v[4 + k] = _mm256_permute2f128_ps::<0x31>(a, b);
                }
            }
        }
    }
}

/// 8 lanes of AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2;

/// 4 lanes of plain Rust, which compilers turn into SSE2 or NEON. Multiply and add round
/// separately: a fused one would be a library call where the processor has none.
#[derive(Clone, Copy)]
pub struct Portable;

impl Simd for Portable {
    type V = [f32; 4];
    type M = [bool; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller's four elements; an array of f32 has the alignment of f32.
        unsafe { *p.cast() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: as in `load`.
        unsafe { *p.cast() = v }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn gate(v: [f32; 4], gate: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if gate[i] > 0.0 { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(v: [f32; 4]) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
    #[inline(always)]
    unsafe fn mask(lo: isize, hi: isize) -> [bool; 4] {
        std::array::from_fn(|i| (lo..hi).contains(&(i as isize)))
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: [bool; 4]) -> [f32; 4] {
        // SAFETY: only chosen lanes are read; the pointer may leave the buffer elsewhere.
        std::array::from_fn(|i| if m[i] { unsafe { *p.wrapping_add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, m: [bool; 4], v: [f32; 4]) {
        for i in 0..4 {
            if m[i] {
                // SAFETY: only chosen lanes are written.
                unsafe { *p.wrapping_add(i) = v[i] }
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose(v: &mut [[f32; 4]; MOST_LANES]) {
        let rows = [v[0], v[1], v[2], v[3]];
        for i in 0..4 {
            v[i] = std::array::from_fn(|j| rows[j][i]);
        }
    }
}

/// Starts moving the cache line at `p` into the first-level cache; any address will do.
#[inline(always)]
pub fn prefetch(p: *const f32) {
    // SAFETY: a prefetch never faults, and every x86-64 has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Starts moving the cache line at `p` into the second-level cache; any address will do.
#[inline(always)]
pub fn prefetch_second(p: *const f32) {
    // SAFETY: as in `prefetch`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::dispatch::on_isa;

    #[inline(always)]
    unsafe fn lanes<S: Simd>(lo: isize, hi: isize, out: &mut Vec<f32>) {
        let source: Vec<f32> = (1..=S::LANES).map(|i| i as f32).collect();
        let mut target = vec![-1.0; S::LANES];
        // SAFETY: both buffers hold LANES elements.
        unsafe {
            let m = S::mask(lo, hi);
            S::store_masked(target.as_mut_ptr(), m, S::load_masked(source.as_ptr(), m));
        }
        *out = target;
    }
    on_isa!(fn lanes_on / lanes(lo: isize, hi: isize, out: &mut Vec<f32>));

    #[inline(always)]
    unsafe fn transposed<S: Simd>(out: &mut Vec<f32>) {
        let source: Vec<f32> = (0..S::LANES * S::LANES).map(|i| i as f32).collect();
        let mut target = vec![-1.0; source.len()];
        // SAFETY: rows of LANES elements each.
        unsafe {
            let mut v = [S::splat(0.0); MOST_LANES];
            for i in 0..S::LANES {
                v[i] = S::load(source.as_ptr().add(i * S::LANES));
            }
            S::transpose(&mut v);
            for i in 0..S::LANES {
                S::store(target.as_mut_ptr().add(i * S::LANES), v[i]);
            }
        }
        *out = target;
    }
    on_isa!(fn transposed_on / transposed(out: &mut Vec<f32>));

    #[test]
    fn columns_become_rows() {
        for isa in Isa::available() {
            let mut out = Vec::new();
            // SAFETY: `isa` was detected.
            unsafe { transposed_on(isa, &mut out) };
            let n = isa.lanes();
            let expected: Vec<f32> = (0..n * n).map(|i| (i % n * n + i / n) as f32).collect();
            assert_eq!(out, expected, "{isa:?}");
        }
    }

    #[test]
    fn masks_choose_exactly_the_lanes_asked_for() {
        for isa in Isa::available() {
            for lo in -3..20 {
                for hi in -3..20 {
                    let mut out = Vec::new();
                    // SAFETY: `isa` was detected.
                    unsafe { lanes_on(isa, lo, hi, &mut out) };
                    for (i, &got) in out.iter().enumerate() {
                        let chosen = (lo..hi).contains(&(i as isize));
                        assert_eq!(got, if chosen { i as f32 + 1.0 } else { -1.0 }, "{isa:?} {lo}..{hi} lane {i}");
                    }
                }
            }
        }
    }
}
