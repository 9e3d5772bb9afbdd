//! The built-in networks, layer by layer, as their papers define them for 32 x 32 pictures. Three blocks at full,
//! half and quarter resolution, but for FractalNet, which halves after every block.

use super::graph::{Graph, Value};
use crate::nas::twin::NetworkShape;

/// The first convolution, 3 x 3.
fn stem(shape: &NetworkShape, channels: usize) -> (Graph, Value) {
    let mut graph = Graph::new(shape);
    graph.part("stem");
    let x = graph.conv("conv", 0, channels, 3, shape.stem_stride);
    (graph, x)
}

/// BatchNorm, ReLU, mean of the picture, matrix: the end of the networks whose values are not rectified.
fn head(mut graph: Graph, from: &[Value]) -> Graph {
    graph.part("head");
    let x = graph.norm_relu("bn", from);
    graph.classify(x)
}

/// Units of BN-ReLU-3x3-BN-ReLU-3x3 with 16, 32 and 64 channels times `width`. Where channels or resolution change,
/// the shortcut is a 1x1 convolution of the normalised and rectified input, otherwise the input itself.
pub(super) fn wide_resnet(shape: &NetworkShape, depth: usize, width: usize) -> Graph {
    let (mut graph, mut x) = stem(shape, 16);
    for block in 0..3 {
        let channels = (16 << block) * width;
        for unit in 0..(depth - 4) / 6 {
            graph.part(format!("block{block}.unit{unit}"));
            let stride = if block > 0 && unit == 0 { 2 } else { 1 };
            let normal = graph.norm_relu("bn0", &[x]);
            let shortcut = if graph.channels(x) == channels && stride == 1 {
                x
            } else {
                graph.conv("shortcut", normal, channels, 1, stride)
            };
            let y = graph.conv("conv0", normal, channels, 3, stride);
            let y = graph.norm_relu("bn1", &[y]);
            let y = graph.conv("conv1", y, channels, 3, 1);
            x = graph.add(y, shortcut);
        }
    }
    head(graph, &[x])
}

/// Units of 3x3-BN-ReLU-3x3-BN with 16, 32 and 64 channels, added to the input and rectified. Where the resolution
/// changes, the shortcut is every second pixel of the input, with channels of zeros behind its own.
pub(super) fn resnet(shape: &NetworkShape, depth: usize) -> Graph {
    let (mut graph, x) = stem(shape, 16);
    let mut x = graph.norm_relu("bn", &[x]);
    for block in 0..3 {
        for unit in 0..(depth - 2) / 6 {
            graph.part(format!("block{block}.unit{unit}"));
            let (channels, halves) = (16 << block, block > 0 && unit == 0);
            let y = graph.conv("conv0", x, channels, 3, if halves { 2 } else { 1 });
            let y = graph.norm_relu("bn0", &[y]);
            let y = graph.conv("conv1", y, channels, 3, 1);
            let y = graph.norm("bn1", y);
            let shortcut = if halves { graph.subsample(x) } else { x };
            let sum = graph.add(y, shortcut);
            x = graph.relu(sum);
        }
    }
    graph.part("head");
    graph.classify(x)
}

/// Layers of BN-ReLU-3x3 that read all that their block computed before and add `growth` channels; compressed with
/// BN-ReLU-1x1 to 4 `growth` channels in front. Transitions: BN-ReLU-1x1 to as many channels, or half of them, then
/// pooling.
pub(super) fn densenet(shape: &NetworkShape, depth: usize, growth: usize, compressed: bool) -> Graph {
    let (mut graph, mut x) = stem(shape, if compressed { 2 * growth } else { 16 });
    let layers = (depth - 4) / if compressed { 6 } else { 3 };
    for block in 0..3 {
        let mut features = vec![x];
        for layer in 0..layers {
            graph.part(format!("block{block}.layer{layer}"));
            let mut y = graph.norm_relu("bn0", &features);
            if compressed {
                y = graph.conv("conv0", y, 4 * growth, 1, 1);
                y = graph.norm_relu("bn1", &[y]);
            }
            features.push(graph.conv("conv1", y, growth, 3, 1));
        }
        if block == 2 {
            return head(graph, &features);
        }
        graph.part(format!("transition{block}"));
        let y = graph.norm_relu("bn", &features);
        let channels = graph.channels(y) / if compressed { 2 } else { 1 };
        let y = graph.conv("conv", y, channels, 1, 1);
        x = graph.avg_pool(y);
    }
    graph
}

/// Channels of FractalNet's blocks.
pub(super) const FRACTAL_CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Blocks of columns of 3x3-BN-ReLU: the last column is one such layer deep, each one before it twice as deep as the
/// next, and where several end at once, their mean goes on; then the largest of 2 x 2 pixels. There is no stem; in
/// place of a strided one the picture is halved by averaging.
pub(super) fn fractalnet(shape: &NetworkShape, columns: usize, blocks: usize) -> Graph {
    let mut graph = Graph::new(shape);
    let mut x = 0;
    if shape.stem_stride == 2 {
        graph.part("stem");
        x = graph.avg_pool(x);
    }
    for (block, &channels) in FRACTAL_CHANNELS.iter().enumerate().take(blocks) {
        // What each column goes on from.
        let mut open = vec![x; columns];
        for row in 1..=1 << (columns - 1) {
            // Column c has a layer in every 2^c-th row.
            let ending = (0..columns).take_while(|&c| row % (1 << c) == 0);
            let mut ends = Vec::new();
            for column in ending {
                graph.part(format!("block{block}.column{column}.layer{}", row / (1 << column) - 1));
                let y = graph.conv("conv", open[column], channels, 3, 1);
                ends.push(graph.norm_relu("bn", &[y]));
            }
            graph.part(format!("block{block}.join{row}"));
            let joined = graph.mean(&ends);
            open[..ends.len()].fill(joined);
        }
        graph.part(format!("block{block}"));
        x = graph.max_pool(open[0]);
    }
    graph.part("head");
    graph.classify(x)
}
