//! How parameters start.

use crate::rng::Rng;

/// An initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// All zeros: biases, BatchNorm shifts.
    Zeros,
    /// All ones: BatchNorm scales.
    Ones,
    /// Rows (or columns, if there are more rows) orthonormal, seen as [K, C*R*S] (of volumes C*T*R*S) (Saxe et al.
    /// 2014): the SMASH network and the HyperNet.
    Orthogonal,
    /// Normal with variance 2 / (C*R*S) (He et al. 2015): the resulting network.
    He,
}

impl Init {
    /// Fills `values`, a parameter of extent `dims`.
    pub fn fill(self, dims: &[usize], values: &mut [f32], rng: &mut Rng) {
        match self {
            Self::Zeros => values.fill(0.0),
            Self::Ones => values.fill(1.0),
            Self::Orthogonal => orthogonal(dims[0], values, rng),
            Self::He => {
                let fan_in = (values.len() / dims[0].max(1)).max(1);
                let scale = (2.0 / fan_in as f64).sqrt();
                values.iter_mut().for_each(|v| *v = (scale * rng.normal()) as f32);
            }
        }
    }
}

/// Gram-Schmidt on random normal vectors, twice for accuracy, in f64.
fn orthogonal(rows: usize, values: &mut [f32], rng: &mut Rng) {
    let columns = values.len() / rows.max(1);
    let (count, len) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut v: Vec<f64> = (0..len).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for b in &basis {
                let along: f64 = v.iter().zip(b).map(|(x, y)| x * y).sum();
                v.iter_mut().zip(b).for_each(|(x, y)| *x -= along * y);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A vector that was all but inside the span of the others carries only rounding.
        if norm > 1e-6 {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    for (i, value) in values.iter_mut().enumerate() {
        let (row, column) = (i / columns, i % columns);
        *value = if rows <= columns { basis[row][column] } else { basis[column][row] } as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for (rows, columns) in [(5, 18), (18, 5), (7, 7), (1, 3)] {
            let mut w = vec![0.0; rows * columns];
            Init::Orthogonal.fill(&[rows, columns], &mut w, &mut Rng::new(1, Stream::Init));
            let at =
                |r: usize, c: usize| f64::from(if rows <= columns { w[r * columns + c] } else { w[c * columns + r] });
            for a in 0..rows.min(columns) {
                for b in 0..rows.min(columns) {
                    let dot: f64 = (0..rows.max(columns)).map(|i| at(a, i) * at(b, i)).sum();
                    assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-6, "{rows}x{columns}: {a}.{b} = {dot}");
                }
            }
        }
    }

    #[test]
    fn he_has_the_variance_of_its_fan_in() {
        let mut w = vec![0.0; 200 * 50];
        Init::He.fill(&[200, 50, 1, 1], &mut w, &mut Rng::new(1, Stream::Init));
        let variance = w.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / w.len() as f64;
        assert!((variance - 0.04).abs() < 0.002, "{variance}");
    }
}
