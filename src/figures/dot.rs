//! An architecture as a graph in the DOT language of Graphviz, unrolled as in Brock et al. 2018, figures 8 to 13.
//!
//! A bank is a value that changes, and its readers' edges begin where it was last written. An op that adds to banks
//! makes a new value of them: a node `+` with an edge from the old value and one from the op. Banks that come from
//! the same node share one edge, labelled with their numbers.

use crate::nas::arch::{Architecture, Block, Op};
use crate::nas::describe::{self, ranges};
use crate::nas::space::{BLOCKS, Space};
use crate::nas::twin::NetworkShape;

/// Appearance of the whole graph.
const HEAD: &str =
    "  graph [fontname=\"Helvetica\", fontsize=14, nodesep=0.25, ranksep=0.35, labelloc=t, pencolor=\"#d5dbe1\"];
  node [fontname=\"Helvetica\", fontsize=11, shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\"];
  node [margin=\"0.2,0.07\"];
  edge [fontname=\"Helvetica\", fontsize=9, arrowsize=0.6];
";
/// Appearance of an edge from a bank to its reader, from a writer, and from a bank to what it becomes.
const READ: &str = "color=\"#1769aa\"";
const WRITE: &str = "color=\"#d35400\"";
const KEEP: &str = "color=\"#7b8794\"";

/// The graph of a valid architecture in a network of `shape`, one statement per line.
pub fn dot(arch: &Architecture, shape: &NetworkShape) -> String {
    let mut graph = Graph::default();
    let mut source = "stem".to_string();
    graph.nodes += &node(&source, &format!("stem {}", describe::stem(shape)));
    for (b, block) in arch.blocks.iter().enumerate() {
        graph.values = vec![None; block.n_banks];
        graph.values[..block.initial_banks(b, &arch.space)].fill(Some(source));
        graph.block(b, block, &arch.space, shape);
        source = if b + 1 < BLOCKS { format!("transition{b}") } else { "head".to_string() };
        graph.nodes += &node(&source, &source);
        let all = block.written_banks(b, &arch.space);
        graph.read(&all, &source);
    }
    let id = arch.id();
    let label = format!("Architecture {id}\\nAt edges: banks. Blue: read. Orange: written. Grey: what is added to.");
    format!("digraph \"{id}\" {{\n{HEAD}  label=\"{label}\";\n{}{}}}\n", graph.nodes, graph.edges)
}

fn node(name: &str, label: &str) -> String {
    format!("  {name} [label=\"{label}\"];\n")
}

/// What stands in the graph so far. Edges come behind all nodes: they would draw what they join into a cluster.
#[derive(Default)]
struct Graph {
    nodes: String,
    edges: String,
    /// Of every bank of the block, the node where its present value comes from.
    values: Vec<Option<String>>,
}

impl Graph {
    /// The ops of block number `b`, framed.
    fn block(&mut self, b: usize, block: &Block, space: &Space, shape: &NetworkShape) {
        let extent = describe::extent(shape.extent(b));
        let label = format!("Block {b}: {extent}, banks of {} channels", block.bank_size * space.unit);
        self.nodes += &format!("  subgraph cluster_block{b} {{\n  label=\"{label}\"; bgcolor=\"#f4f6f8\";\n");
        for (number, op) in block.ops.iter().enumerate() {
            let name = format!("block{b}_op{number}");
            let label = format!(
                "op {number}: {} channels\\n1x1 {} to {}\\n{}",
                op.output_channels(space),
                op.input_channels(block, space),
                op.bottleneck_channels(block, space),
                describe::body(op, shape).replace(" | ", "\\n+ ")
            );
            self.nodes += &node(&name, &label);
            self.read(&op.read, &name);
            self.write(op, &name);
        }
        self.nodes += "  }\n";
    }

    /// Edges to `reader` from the values of `banks`.
    fn read(&mut self, banks: &[usize], reader: &str) {
        for (source, banks) in self.sources(banks) {
            if let Some(source) = source {
                self.edge(&source, reader, &banks, READ);
            }
        }
    }

    /// The new values of the banks that `op` writes: its own, or sums.
    fn write(&mut self, op: &Op, name: &str) {
        for (source, banks) in self.sources(&op.write) {
            let value = match source {
                None => name.to_string(),
                Some(source) => {
                    let sum = format!("{name}_bank{}", banks[0]);
                    self.nodes += &format!("  {sum} [label=\"+\", shape=circle, width=0.2, fixedsize=true];\n");
                    self.edge(&source, &sum, &banks, KEEP);
                    self.edge(name, &sum, &banks, WRITE);
                    sum
                }
            };
            banks.iter().for_each(|&bank| self.values[bank] = Some(value.clone()));
        }
    }

    /// `banks` by the node that their values come from, in the order in which the nodes first occur.
    fn sources(&self, banks: &[usize]) -> Vec<(Option<String>, Vec<usize>)> {
        let mut groups: Vec<(Option<String>, Vec<usize>)> = Vec::new();
        for &bank in banks {
            let source = &self.values[bank];
            match groups.iter_mut().find(|(other, _)| other == source) {
                Some((_, banks)) => banks.push(bank),
                None => groups.push((source.clone(), vec![bank])),
            }
        }
        groups
    }

    fn edge(&mut self, from: &str, to: &str, banks: &[usize], style: &str) {
        self.edges += &format!("  {from} -> {to} [label=\"{}\", {style}];\n", ranges(banks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::rng::{Rng, Stream};

    const SHAPE: NetworkShape = NetworkShape::pictures(3, 32, 10, 7);

    fn samples() -> Vec<Architecture> {
        let mut rng = Rng::new(2, Stream::Search);
        let spaces = [Space::small(), Space::v1(), Space::v2()];
        spaces.iter().flat_map(|space| [0; 4].map(|_| sample(space, &SampleLimits::full(space), &mut rng))).collect()
    }

    /// An edge: where from, where to, its banks, its appearance.
    fn edges(text: &str) -> Vec<(&str, &str, Vec<usize>, &str)> {
        let parse = |banks: &str| -> Vec<usize> {
            let run = |run: &str| {
                let ends: Vec<usize> = run.split('-').map(|end| end.parse().unwrap()).collect();
                ends[0]..=ends[ends.len() - 1]
            };
            banks.split(',').flat_map(run).collect()
        };
        let edges = text.lines().filter_map(|line| line.trim().split_once(" -> "));
        edges
            .map(|(from, rest)| {
                let (to, rest) = rest.split_once(" [label=\"").unwrap();
                let (banks, style) = rest.split_once("\", ").unwrap();
                (from, to, parse(banks), style.trim_end_matches("];"))
            })
            .collect()
    }

    #[test]
    fn every_bank_is_read_from_where_it_was_written_last() {
        for arch in samples() {
            let text = dot(&arch, &SHAPE);
            let edges = edges(&text);
            for (b, block) in arch.blocks.iter().enumerate() {
                let source = ["stem", "transition0", "transition1"][b];
                let mut writer = vec![Vec::<String>::new(); block.n_banks];
                writer[..block.initial_banks(b, &arch.space)].fill(vec![source.to_string()]);
                for (number, op) in block.ops.iter().enumerate() {
                    let name = format!("block{b}_op{number}");
                    let mut read = Vec::new();
                    for (from, _, banks, _) in edges.iter().filter(|(_, to, _, style)| *to == name && *style == READ) {
                        for &bank in banks {
                            let last = writer[bank].last().unwrap();
                            // The node is the writer, or the sum it made.
                            assert!(from == last || from.starts_with(&format!("{last}_bank")), "{from} for {last}");
                            assert_eq!(from.contains("_bank"), writer[bank].len() > 1);
                            read.push(bank);
                        }
                    }
                    read.sort_unstable();
                    assert_eq!(read, op.read);
                    let added = edges.iter().filter(|(from, _, _, style)| *from == name && *style == WRITE);
                    let mut added: Vec<usize> = added.flat_map(|(_, _, banks, _)| banks.clone()).collect();
                    added.sort_unstable();
                    let old: Vec<usize> = op.write.iter().copied().filter(|&bank| !writer[bank].is_empty()).collect();
                    assert_eq!(added, old);
                    op.write.iter().for_each(|&bank| writer[bank].push(name.clone()));
                }
            }
        }
    }

    #[test]
    fn a_sum_has_its_old_value_and_its_writer() {
        for arch in samples() {
            let text = dot(&arch, &SHAPE);
            let edges = edges(&text);
            let mut sums = 0;
            for sum in text.lines().filter_map(|line| line.trim().split_once(" [label=\"+\"")).map(|(name, _)| name) {
                let into: Vec<_> = edges.iter().filter(|(_, to, ..)| *to == sum).collect();
                assert!(
                    matches!(into[..], [(_, _, old, KEEP), (op, _, new, WRITE)] if old == new && sum.starts_with(op))
                );
                sums += 1;
            }
            assert_eq!(sums, edges.iter().filter(|edge| edge.3 == KEEP).count());
            assert!(sums > 0);
        }
    }

    #[test]
    fn nodes_say_what_an_op_is() {
        let arch = &samples()[8];
        let text = dot(arch, &SHAPE);
        assert_eq!(text, dot(arch, &SHAPE));
        for (index, block) in arch.blocks.iter().enumerate() {
            assert!(text.contains(&format!("subgraph cluster_block{index} {{")));
            for (number, op) in block.ops.iter().enumerate() {
                let line =
                    text.lines().find(|line| line.contains(&format!(" block{index}_op{number} [label="))).unwrap();
                let channels = op.output_channels(&arch.space);
                assert!(line.contains(&format!("\"op {number}: {channels} channels\\n1x1 ")), "{line}");
                for conv in op.body.iter().flatten() {
                    assert!(line.contains(&format!("{}x{}", conv.kernel[0], conv.kernel[1])), "{line}");
                }
                assert_eq!(line.contains("\\n+ "), op.body[2].is_some(), "{line}");
            }
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
