//! The constants of an ONNX graph: weights under their names in files ([`keys`](crate::export::keys)), lists of integers.
//!
//! Filters and matrices are stored in the 16 bits of the export's type wherever that changes none of their numbers, and in
//! f32 otherwise: the weights of an export are rounded before they get here, but what BatchNorm was folded into is not.

use super::names::Names;
use super::proto::{Tensor, data_type};
use crate::export::about::Dtype;
use crate::export::keys::{extent, key};
use crate::tape::computation::Constant;
use half::{bf16, f16};
use std::collections::BTreeMap;

/// The constants so far.
pub struct Tensors {
    dtype: Dtype,
    is_volume: bool,
    list: Vec<Tensor>,
    names: Names,
    /// Lists of integers that are there already, and their names.
    indices: BTreeMap<Vec<usize>, String>,
}

impl Tensors {
    /// None yet; filters and matrices are to be stored in `dtype`.
    pub fn new(dtype: Dtype, is_volume: bool) -> Self {
        Self { dtype, is_volume, list: Vec::new(), names: Names::default(), indices: BTreeMap::new() }
    }

    /// All of them.
    pub fn into_list(self) -> Vec<Tensor> {
        self.list
    }

    /// Extent of a weight in the graph.
    pub fn extent(&self, constant: &Constant) -> Vec<usize> {
        extent(&constant.name, &constant.dims, self.is_volume)
    }

    /// Adds a weight. Returns its name, and the type to cast it to if it is stored in another one.
    pub fn weight(&mut self, constant: &Constant) -> (String, Option<i32>) {
        let extent = self.extent(constant);
        let dtype = if extent.len() > 1 { self.dtype } else { Dtype::F32 };
        match halves(dtype, &constant.values) {
            Some((data_type, raw)) => (self.add(&key(&constant.name), &extent, data_type, raw), Some(data_type::FLOAT)),
            None => (self.floats(&key(&constant.name), &extent, &constant.values), None),
        }
    }

    /// Adds numbers in f32; returns their name.
    pub fn floats(&mut self, name: &str, extent: &[usize], values: &[f32]) -> String {
        self.add(name, extent, data_type::FLOAT, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Adds a list of integers, unless it is there; returns its name.
    pub fn indices(&mut self, list: &[usize]) -> String {
        if let Some(name) = self.indices.get(list) {
            return name.clone();
        }
        let words: Vec<String> = list.iter().map(usize::to_string).collect();
        let raw = list.iter().flat_map(|&i| (i as i64).to_le_bytes()).collect();
        let name = self.add(&format!("indices.{}", words.join("_")), &[list.len()], data_type::INT64, raw);
        self.indices.insert(list.to_vec(), name.clone());
        name
    }

    fn add(&mut self, name: &str, extent: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let name = self.names.unique(name.into());
        let dims = extent.iter().map(|&len| len as i64).collect();
        self.list.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }
}

/// What is left of a number in 16 bits, and these.
type Rounding = fn(f32) -> (f32, [u8; 2]);

/// The numbers in 16 bits each, where these hold them exactly.
fn halves(dtype: Dtype, values: &[f32]) -> Option<(i32, Vec<u8>)> {
    let (data_type, pack): (i32, Rounding) = match dtype {
        Dtype::F32 => return None,
        Dtype::F16 => (data_type::FLOAT16, |x| (f16::from_f32(x).to_f32(), f16::from_f32(x).to_le_bytes())),
        Dtype::Bf16 => (data_type::BFLOAT16, |x| (bf16::from_f32(x).to_f32(), bf16::from_f32(x).to_le_bytes())),
    };
    let packed = values.iter().map(|&x| Some(pack(x)).filter(|(kept, _)| kept.to_bits() == x.to_bits()));
    let bytes: Option<Vec<[u8; 2]>> = packed.map(|pair| pair.map(|(_, bytes)| bytes)).collect();
    Some((data_type, bytes?.concat()))
}
