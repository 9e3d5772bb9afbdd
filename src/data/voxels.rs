//! A mesh as voxels: which of 32 x 32 x 32 cubes its surface passes through, seen from 24 sides.
//!
//! View j is the mesh turned about z by 2 pi j / 24 (ModelNet's models stand upright along z), moved and scaled so that
//! its bounding box begins at the centre of voxel (0, 0, 0) and its longest side ends at the centre of a voxel 31, as
//! `polygon2voxel` does in the mode "auto" (the mean of the vertices, about which they turn, cancels out).
//! Coordinates are then rounded to 1/4096 of a voxel. From there on all is exact: a voxel is set if and only if
//! some triangle has a point in common with its cube, by the separating-axis theorem in integers. Faces of cubes lie half
//! a step beside what coordinates can be, so that a wall parallel to them is one voxel thick wherever it stands.
//!
//! The tests below decide columns of cubes at a time, after Schwarz and Seidel, "Fast parallel surface and solid
//! voxelization on GPUs", 2010.

use crate::data::off::Mesh;

/// Voxels along each side.
pub(super) const SIDE: usize = 32;
/// Views of each mesh.
pub(super) const VIEWS: usize = 24;
/// Bytes of one view: a bit per voxel.
pub(super) const VIEW_BYTES: usize = SIDE * SIDE * SIDE / 8;

/// Side of a voxel; coordinates are even, so a voxel has 4096 of them.
const UNIT: i64 = 8192;
const HALF: i64 = UNIT / 2;

/// All views of `mesh`, `[view][z][y][x]`: x along the bits of a byte from the lowest on, 4096 bytes a view.
pub(super) fn views(mesh: &Mesh) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VIEWS * VIEW_BYTES);
    for j in 0..VIEWS {
        let points = turned(&mesh.vertices, j);
        let mut grid = Grid([0; SIDE * SIDE]);
        for triangle in mesh.triangles() {
            grid.add(&triangle.map(|i| points[i as usize]));
        }
        bytes.extend(grid.0.iter().flat_map(|row| row.to_le_bytes()));
    }
    bytes
}

/// Cosine of 15 degrees times `step`: the same bits on every machine.
fn cosine(step: usize) -> f64 {
    use std::f64::consts::FRAC_1_SQRT_2;
    const QUARTER: [f64; 7] =
        [1.0, 0.965_925_826_289_068_3, 0.866_025_403_784_438_6, FRAC_1_SQRT_2, 0.5, 0.258_819_045_102_520_74, 0.0];
    match step % 24 {
        step @ 0..=6 => QUARTER[step],
        step @ 7..=12 => -QUARTER[12 - step],
        step @ 13..=18 => -QUARTER[step - 12],
        step => QUARTER[24 - step],
    }
}

/// The vertices of view `j` in units of the grid.
fn turned(vertices: &[[f64; 3]], j: usize) -> Vec<[i64; 3]> {
    let (cos, sin) = (cosine(j), cosine(j + 18));
    let mean = [0, 1, 2].map(|axis| vertices.iter().map(|v| v[axis]).sum::<f64>() / vertices.len() as f64);
    let turn = |v: &[f64; 3]| {
        let [x, y, z] = [0, 1, 2].map(|axis| v[axis] - mean[axis]);
        [x * cos - y * sin, x * sin + y * cos, z]
    };
    let (mut low, mut high) = ([f64::MAX; 3], [f64::MIN; 3]);
    for v in vertices.iter().map(turn) {
        low = [0, 1, 2].map(|axis| low[axis].min(v[axis]));
        high = [0, 1, 2].map(|axis| high[axis].max(v[axis]));
    }
    let longest = (0..3).fold(0.0, |longest: f64, axis| longest.max(high[axis] - low[axis]));
    let steps = (SIDE - 1) as f64 * (UNIT / 2) as f64;
    let place = |v: [f64; 3]| [0, 1, 2].map(|axis| 2 * ((v[axis] - low[axis]) / longest * steps).round() as i64);
    vertices.iter().map(|v| place(turn(v))).collect()
}

/// The voxel of a coordinate.
fn voxel(x: i64) -> i64 {
    (x + HALF - 1).div_euclid(UNIT)
}

/// A row of 32 bits for each z and y.
struct Grid([u32; SIDE * SIDE]);

impl Grid {
    fn set(&mut self, [x, y, z]: [i64; 3]) {
        self.0[z as usize * SIDE + y as usize] |= 1 << x;
    }

    /// Sets what the triangle passes through.
    fn add(&mut self, corners: &[[i64; 3]; 3]) {
        let along = |axis: usize| corners.map(|corner| corner[axis]);
        let range = |axis: usize| {
            let [a, b, c] = along(axis);
            [voxel(a.min(b).min(c)), voxel(a.max(b).max(c))]
        };
        let ranges = [range(0), range(1), range(2)];
        let long = ranges.iter().filter(|[first, last]| first != last).count();
        if long <= 1 {
            // A row of cubes holds the triangle, which is connected: it passes through all of them.
            let [xs, ys, zs] = ranges.map(|[first, last]| first..=last);
            for z in zs {
                for y in ys.clone() {
                    xs.clone().for_each(|x| self.set([x, y, z]));
                }
            }
            return;
        }
        // Columns run along the axis that the triangle faces most, where few of their cubes are near it.
        let plane = Plane::of(corners);
        let c = (0..3).max_by_key(|&axis| plane.normal[axis].abs()).unwrap_or(0);
        let (a, b) = ((c + 1) % 3, (c + 2) % 3);
        let shadow = |a: usize, b: usize| Shadow::of(along(a), along(b));
        let (of_ab, of_bc, of_ca) = (shadow(a, b), shadow(b, c), shadow(c, a));
        for i in ranges[a][0]..=ranges[a][1] {
            for j in (ranges[b][0]..=ranges[b][1]).filter(|&j| of_ab.touches(i, j)) {
                let [first, last] = plane.reach([a, b, c], [i, j], ranges[c]);
                for k in (first..=last).filter(|&k| of_bc.touches(j, k) && of_ca.touches(k, i)) {
                    let mut cell = [0; 3];
                    (cell[a], cell[b], cell[c]) = (i, j, k);
                    self.set(cell);
                }
            }
        }
    }
}

/// The plane of a triangle: normal . x = offset. Products stay below 2^58.
struct Plane {
    normal: [i64; 3],
    offset: i64,
}

impl Plane {
    fn of([p, q, r]: &[[i64; 3]; 3]) -> Self {
        let (u, v) = ([0, 1, 2].map(|i| q[i] - p[i]), [0, 1, 2].map(|i| r[i] - p[i]));
        let normal = [0, 1, 2].map(|i| {
            let (j, k) = ((i + 1) % 3, (i + 2) % 3);
            u[j] * v[k] - u[k] * v[j]
        });
        Self { normal, offset: (0..3).map(|i| normal[i] * p[i]).sum() }
    }

    /// First and last of the cubes `range` in column (i, j) that the plane passes through.
    fn reach(&self, [a, b, c]: [usize; 3], [i, j]: [i64; 2], range: [i64; 2]) -> [i64; 2] {
        let [na, nb, nc] = [a, b, c].map(|axis| self.normal[axis]);
        if nc == 0 {
            return range; // no area, no plane
        }
        // A cube's normal . x is `centre` plus or minus `radius`, plus nc k UNIT.
        let centre = na * (i * UNIT + 1) + nb * (j * UNIT + 1) + nc;
        let radius = (na.abs() + nb.abs() + nc.abs()) * HALF;
        let (low, high) = (self.offset - centre - radius, self.offset - centre + radius);
        let step = nc.abs() * UNIT;
        let (low, high) = if nc > 0 { (low, high) } else { (-high, -low) };
        [range[0].max(-(-low).div_euclid(step)), range[1].min(high.div_euclid(step))]
    }
}

/// A triangle seen along an axis: three edges, each with how far the triangle reaches across it.
struct Shadow([Edge; 3]);

/// Voxel (i, j) may touch the triangle if `low <= normal . (i, j) <= high`.
struct Edge {
    normal: [i64; 2],
    low: i64,
    high: i64,
}

impl Shadow {
    fn of(xs: [i64; 3], ys: [i64; 3]) -> Self {
        Self([0, 1, 2].map(|at| {
            let (next, other) = ((at + 1) % 3, (at + 2) % 3);
            let [nx, ny] = [ys[at] - ys[next], xs[next] - xs[at]];
            let across = |corner: usize| nx * xs[corner] + ny * ys[corner];
            let (edge, tip) = (across(at), across(other));
            // A square reaches this far to both sides of its centre, which is at UNIT (i, j) + (1, 1).
            let radius = (nx.abs() + ny.abs()) * HALF;
            let shift = nx + ny;
            Edge {
                normal: [nx * UNIT, ny * UNIT],
                low: edge.min(tip) - radius - shift,
                high: edge.max(tip) + radius - shift,
            }
        }))
    }

    fn touches(&self, i: i64, j: i64) -> bool {
        self.0.iter().all(|edge| (edge.low..=edge.high).contains(&(edge.normal[0] * i + edge.normal[1] * j)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};
    use std::path::Path;

    fn mesh(text: &str) -> Mesh {
        Mesh::parse(Path::new("some.off"), text.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
    }

    const CUBE: &str = "OFF 8 6 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n0 0 1\n1 0 1\n1 1 1\n0 1 1\n\
                        4 0 1 2 3\n4 4 5 6 7\n4 0 1 5 4\n4 1 2 6 5\n4 2 3 7 6\n4 3 0 4 7\n";

    /// The voxels of view `j` as [z][y][x].
    fn is_set(bytes: &[u8], j: usize, [x, y, z]: [usize; 3]) -> bool {
        bytes[j * VIEW_BYTES + (z * SIDE + y) * SIDE / 8 + x / 8] >> (x % 8) & 1 == 1
    }

    fn all_voxels() -> impl Iterator<Item = [usize; 3]> {
        (0..SIDE.pow(3)).map(|i| [i % SIDE, i / SIDE % SIDE, i / SIDE / SIDE])
    }

    #[test]
    fn a_cube_is_a_hollow_box_one_voxel_thick() {
        let bytes = views(&mesh(CUBE));
        assert_eq!(bytes.len(), VIEWS * VIEW_BYTES);
        for j in [0, 6, 12, 18] {
            for place in all_voxels() {
                let wall = place.iter().any(|&i| i == 0 || i == SIDE - 1);
                assert_eq!(is_set(&bytes, j, place), wall, "view {j} {place:?}");
            }
        }
    }

    #[test]
    fn walls_parallel_to_voxels_are_one_voxel_thick_wherever_they_stand() {
        // A plane x = t through a box of 0 to 31, t in steps of a fortieth; 5.5 too is one voxel.
        for step in 0..=31 * 40 {
            let x = (f64::from(step) / 40.0 * 4096.0).round() as i64 * 2;
            let mut grid = Grid([0; SIDE * SIDE]);
            let end = 31 * UNIT;
            grid.add(&[[x, 0, 0], [x, end, 0], [x, 0, end]]);
            grid.add(&[[x, end, end], [x, end, 0], [x, 0, end]]);
            let column = ((f64::from(step) / 40.0) - 0.5).ceil() as u32;
            assert!(grid.0.iter().all(|&row| row == 1 << column), "{step}");
        }
    }

    #[test]
    fn a_sloping_plane_is_where_the_plane_is() {
        // z = x + y / 2 over a box whose longest side is z.
        let bytes = views(&mesh("OFF 4 1 0\n0 0 0\n2 0 2\n2 2 3\n0 2 1\n4 0 1 2 3\n"));
        for [x, y, z] in all_voxels() {
            // Of the points of the square column, x and y up to 20 2/3, z = x + y / 2 is within these.
            let ends = |i: usize| [(i as f64 - 0.5).max(0.0), (i as f64 + 0.5).min(62.0 / 3.0)];
            let (xs, ys) = (ends(x), ends(y));
            let there = xs[0] <= xs[1] && ys[0] <= ys[1];
            let (low, high) = (xs[0] + ys[0] / 2.0, xs[1] + ys[1] / 2.0);
            let z = z as f64;
            // Within a thousandth of a corner the rounding of coordinates decides.
            if there && (low - z - 0.5).abs() > 1e-3 && (high - z + 0.5).abs() > 1e-3 {
                assert_eq!(is_set(&bytes, 0, [x, y, z as usize]), low < z + 0.5 && high > z - 0.5, "{x} {y} {z}");
            } else if !there {
                assert!(!is_set(&bytes, 0, [x, y, z as usize]), "{x} {y} {z}");
            }
        }
    }

    /// Do triangle and cube have a point in common? All thirteen axes that may separate them, in 128 bits.
    fn touches(corners: &[[i64; 3]; 3], cell: [usize; 3]) -> bool {
        let corners = corners.map(|corner| corner.map(i128::from));
        let edge = |i: usize| [0, 1, 2].map(|axis| corners[(i + 1) % 3][axis] - corners[i][axis]);
        let cross = |u: [i128; 3], v: [i128; 3]| {
            [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]
        };
        let unit = |axis: usize| [0, 1, 2].map(|i| i128::from(i == axis));
        let mut axes: Vec<[i128; 3]> = (0..3).map(unit).collect();
        axes.push(cross(edge(0), edge(1)));
        axes.extend((0..9).map(|i| cross(edge(i / 3), unit(i % 3))));
        let dot = |u: [i128; 3], v: [i128; 3]| u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
        let bounds = |i: usize| [1, -1].map(|side| 8192 * i as i128 + 1 - 4096 * side);
        axes.into_iter().all(|axis| {
            let of_triangle = corners.map(|corner| dot(axis, corner));
            let of_cube: Vec<i128> =
                (0..8).map(|i| dot(axis, [0, 1, 2].map(|a| bounds(cell[a])[i >> a & 1]))).collect();
            let (low, high) = (of_triangle.iter().min(), of_triangle.iter().max());
            low <= of_cube.iter().max() && high >= of_cube.iter().min()
        })
    }

    /// Triangles of all sizes, some thin, some without area, some on a lattice where corners meet.
    fn triangle(i: usize, rng: &mut Rng) -> [[i64; 3]; 3] {
        let reach = [1, 3, 31][i % 3] * 4096;
        let step = if i % 5 == 4 { 2048 } else { 1 };
        let origin = [0; 3].map(|_: i32| rng.below(31 * 4096 - reach + 1));
        let mut corners = [0; 3].map(|_: i32| origin.map(|o| (o + rng.below(reach + 1)) / step * step));
        match i % 7 {
            5 => corners[2] = [0, 1, 2].map(|axis| (corners[0][axis] + corners[1][axis]) / 2), // nearly a line
            6 => corners[2] = corners[i % 2],                                                  // a line
            _ => {}
        }
        corners.map(|corner| corner.map(|x| 2 * x as i64))
    }

    #[test]
    fn a_voxel_is_set_if_and_only_if_no_axis_separates_it_from_the_triangle() {
        let mut rng = Rng::new(3, Stream::Init);
        let mut several = 0;
        for i in 0..210 {
            let corners = triangle(i, &mut rng);
            let mut grid = Grid([0; SIDE * SIDE]);
            grid.add(&corners);
            for [x, y, z] in all_voxels() {
                let set = grid.0[z * SIDE + y] >> x & 1 == 1;
                // Two voxels off its bounding box nothing needs thirteen axes.
                let near = |axis: usize, at: usize| {
                    let values = corners.map(|corner| corner[axis] - at as i64 * UNIT);
                    values.iter().any(|&v| v <= 2 * UNIT) && values.iter().any(|&v| v >= -2 * UNIT)
                };
                let expected = near(0, x) && near(1, y) && near(2, z) && touches(&corners, [x, y, z]);
                assert_eq!(set, expected, "triangle {i} {corners:?}, voxel {x} {y} {z}");
            }
            several += usize::from(grid.0.iter().map(|row| row.count_ones()).sum::<u32>() > 4);
        }
        assert!(several > 100, "{several} triangles pass through more than four voxels");
    }

    #[test]
    fn views_turn_about_z_towards_y() {
        // A flag on a mast: the mast along z, the flag points along x in view 0 and along y in view 6.
        let flag = mesh("OFF 3 1 0\n0 0 0\n0 0 4\n1 0 4\n3 0 1 2\n");
        let bytes = views(&flag);
        let reach = |j: usize, axis: usize| {
            all_voxels().filter(|&place| is_set(&bytes, j, place)).map(|place| place[axis]).max().unwrap()
        };
        assert_eq!((reach(0, 0), reach(0, 1), reach(0, 2)), (8, 0, 31));
        assert_eq!((reach(6, 0), reach(6, 1), reach(6, 2)), (0, 8, 31));
        // 45 degrees: as far along both.
        assert_eq!((reach(3, 0), reach(3, 1)), (5, 5));
        // Beyond 90 degrees x falls as y rises: the far end of the flag has the smaller x.
        let top = |j: usize| all_voxels().filter(|&p| p[2] == 31 && is_set(&bytes, j, p)).collect::<Vec<_>>();
        assert!(top(9).contains(&[5, 0, 31]) && top(9).contains(&[0, 5, 31]), "{:?}", top(9));
        assert!(top(3).contains(&[0, 0, 31]) && top(3).contains(&[5, 5, 31]), "{:?}", top(3));
    }

    #[test]
    fn cosines_are_those_of_the_mathematics_library() {
        for step in 0..50 {
            let angle = step as f64 * std::f64::consts::PI / 12.0;
            assert!((cosine(step) - angle.cos()).abs() < 1e-14, "{step}");
            assert!((cosine(step + 18) - angle.sin()).abs() < 1e-14, "{step}");
        }
    }

    #[test]
    fn place_and_size_of_a_mesh_do_not_matter() {
        // All coordinates times 4, plus 5; polygons as before.
        let mut lines: Vec<String> = CUBE.lines().map(str::to_owned).collect();
        for line in &mut lines[1..9] {
            let numbers = line.split(' ').map(|x| (4 * x.parse::<i32>().unwrap() + 5).to_string());
            *line = numbers.collect::<Vec<_>>().join(" ");
        }
        assert_eq!(views(&mesh(&lines.join("\n"))), views(&mesh(CUBE)));
    }
}
