//! The stack machine of a pickle: a few dozen opcodes that build values, none of which runs anything.
//!
//! A pickle is a program: opcodes push values, collect what lies above a mark into tuples, lists and
//! dicts, remember values under numbers, and call functions named as text. Here the names are a closed
//! list (what numpy arrays are made with) and "calling" one notes what it would make; every other
//! name and opcode ends the reading. Values are small and `Copy`: text and bytes stay where they lie in the
//! file, and containers are numbers into `objects`, so that neither shared nor nested nor circular ones
//! cost more than the opcodes that made them. Source: `pickletools.py` of CPython, protocols 2 to 5.

use std::collections::HashMap;

use super::refusal::{printable, refused};
use super::values::{Global, Heap, Object, Text, Value};

/// Values waiting on the stack: picklers write containers in batches of 1,000.
const MAX_STACK: usize = 4096;
/// Values held by containers, all together: the labels of ImageNet are 1.3 million.
const MAX_HELD: usize = 2 << 20;
/// Remembered values: one per file name of CIFAR-100, and a few.
const MAX_MEMO: usize = 1 << 18;

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
}

/// Runs the pickle that `bytes` are.
pub(super) fn run(bytes: &[u8]) -> Result<Heap, Fault> {
    let mut machine = Machine::new(bytes);
    loop {
        machine.opcode = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Heap { objects: machine.objects, root }),
            Err(what) => return Err(Fault { at: machine.opcode, what }),
        }
    }
}

type Step<T> = Result<T, String>;

struct Machine<'a> {
    bytes: &'a [u8],
    /// Where the next opcode or argument lies, and where the current opcode does.
    at: usize,
    opcode: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
    held: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (stack, marks, objects) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at: 0, opcode: 0, stack, marks, memo: HashMap::new(), objects, held: 0 }
    }

    /// Executes one opcode; gives the root at the end.
    fn step(&mut self) -> Step<Option<Value>> {
        let [opcode] = self.take_array()?;
        if self.opcode == 0 && opcode != 0x80 {
            return Err("no pickle of protocol 2 or later begins here".to_owned());
        }
        match opcode {
            0x80 => self.protocol()?,
            0x95 => self.frame()?,
            b'.' => return self.stop().map(Some),
            b'(' => self.mark()?,
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' | b'K' | b'M' | 0x8a => self.integer(opcode)?,
            b'U' | b'T' | b'X' | 0x8c | 0x8d | b'C' | b'B' | 0x8e | 0x96 => self.text(opcode)?,
            b'}' => self.make(Object::Dict(Vec::new()))?,
            b']' => self.make(Object::List(Vec::new()))?,
            b')' => self.make(Object::Tuple(Vec::new()))?,
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let items = self.pop_mark()?;
                self.make(Object::Tuple(items))?;
            }
            b'a' | b'e' => self.append(opcode == b'e')?,
            b's' | b'u' => self.set_items(opcode == b'u')?,
            b'q' | b'r' | 0x94 => self.memoize(opcode)?,
            b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 => self.global(opcode == b'c')?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return Err(refused(other)),
        }
        Ok(None)
    }

    // Arguments.

    fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        let found = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let Some(found) = found else {
            let left = self.bytes.len() - self.at;
            return Err(format!("it needs {len} more bytes where {left} are left"));
        };
        self.at += len;
        Ok(found)
    }

    fn take_array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A length of `bytes` bytes, little-endian.
    fn take_length(&mut self, bytes: usize) -> Step<u64> {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(all))
    }

    // The stack.

    fn push(&mut self, value: Value) -> Step<()> {
        if self.stack.len() >= MAX_STACK {
            return Err(format!("more than {MAX_STACK} values wait to be used, which no pickler writes"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The topmost value above the last mark.
    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("there is no value to use".to_owned());
        }
        self.stack.pop().ok_or_else(|| "there is no value to use".to_owned())
    }

    fn mark(&mut self) -> Step<()> {
        if self.marks.len() >= MAX_STACK {
            return Err(format!("more than {MAX_STACK} marks are open, which no pickler writes"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let Some(height) = self.marks.pop() else {
            return Err("there is no mark to go back to".to_owned());
        };
        Ok(self.stack.split_off(height))
    }

    /// Counts `values` more that containers hold.
    fn hold(&mut self, values: usize) -> Step<()> {
        self.held += values;
        if self.held > MAX_HELD {
            return Err(format!("it holds more than {MAX_HELD} values; store labels as a numpy array"));
        }
        Ok(())
    }

    fn make(&mut self, object: Object) -> Step<()> {
        let inside = if let Object::Tuple(items) = &object { items.len() } else { 0 };
        self.hold(1 + inside)?;
        self.push(Value::Object(self.objects.len()))?;
        self.objects.push(object);
        Ok(())
    }

    /// The container that is on top of the stack above the last mark, and its number.
    fn top_object(&mut self) -> Step<&mut Object> {
        let top = self.pop()?;
        self.push(top)?;
        let Value::Object(number) = top else {
            return Err("the value to fill is no container".to_owned());
        };
        self.objects.get_mut(number).ok_or_else(|| "the value to fill is no container".to_owned())
    }

    fn tuple_of(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Object(number) => match self.objects.get(number) {
                Some(Object::Tuple(items)) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    fn bytes_of(&self, text: Text) -> &'a [u8] {
        self.bytes.get(text.start..text.start + text.len as usize).unwrap_or_default()
    }

    // Opcodes.

    fn protocol(&mut self) -> Step<()> {
        match self.take_array()? {
            [2..=5] => Ok(()),
            [other] => Err(format!("protocol {other} is not one of 2 to 5")),
        }
    }

    /// A frame only says how much may be read ahead.
    fn frame(&mut self) -> Step<()> {
        let promised = self.take_length(8)?;
        let left = (self.bytes.len() - self.at) as u64;
        if promised > left {
            return Err(format!("a frame of {promised} bytes begins where {left} are left"));
        }
        Ok(())
    }

    fn stop(&mut self) -> Step<Value> {
        let root = self.pop()?;
        let left = self.bytes.len() - self.at;
        if left > 0 {
            return Err(format!("the pickle ends here, but {left} more bytes follow"));
        }
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err("the pickle ends with values that belong to nothing".to_owned());
        }
        Ok(root)
    }

    fn integer(&mut self, opcode: u8) -> Step<()> {
        let value = match opcode {
            b'J' => i32::from_le_bytes(self.take_array()?).into(),
            b'K' => u8::from_le_bytes(self.take_array()?).into(),
            b'M' => u16::from_le_bytes(self.take_array()?).into(),
            _ => self.long()?,
        };
        self.push(Value::Int(value))
    }

    /// `LONG1`: a length and as many bytes of a two's complement number.
    fn long(&mut self) -> Step<i64> {
        let [len] = self.take_array()?;
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut all = [if negative { 0xff } else { 0 }; 8];
        let Some(target) = all.get_mut(..bytes.len()) else {
            return Err(format!("an integer of {len} bytes is larger than any here"));
        };
        target.copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn text(&mut self, opcode: u8) -> Step<()> {
        let len = match opcode {
            b'U' | b'C' | 0x8c => self.take_length(1)?,
            b'T' | b'X' | b'B' => self.take_length(4)?,
            _ => self.take_length(8)?,
        };
        let start = self.at;
        // The four-byte length of Python 2 is signed, but no file has two gigabytes in one text.
        let short = u32::try_from(len).ok().zip(usize::try_from(len).ok());
        let Some((len, size)) = short else {
            return Err(format!("a value of {len} bytes is too large; store the set as several files"));
        };
        self.take(size)?;
        self.push(Value::Text(Text { start, len, latin1: false }))
    }

    fn tuple(&mut self, len: usize) -> Step<()> {
        let mut items = vec![Value::None; len];
        for item in items.iter_mut().rev() {
            *item = self.pop()?;
        }
        self.make(Object::Tuple(items))
    }

    fn append(&mut self, batch: bool) -> Step<()> {
        let items = if batch { self.pop_mark()? } else { vec![self.pop()?] };
        self.hold(items.len())?;
        match self.top_object()? {
            Object::List(list) => list.extend(items),
            _ => return Err("values are appended to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, batch: bool) -> Step<()> {
        let items = if batch {
            self.pop_mark()?
        } else {
            let value = self.pop()?;
            vec![self.pop()?, value]
        };
        self.hold(items.len())?;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.top_object()? {
            Object::Dict(dict) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Object::Dict(_) => return Err("a dict gets a key without a value".to_owned()),
            _ => return Err("keys are set in something that is no dict".to_owned()),
        }
        Ok(())
    }

    fn memoize(&mut self, opcode: u8) -> Step<()> {
        let number = match opcode {
            b'q' => u8::from_le_bytes(self.take_array()?).into(),
            b'r' => u32::from_le_bytes(self.take_array()?),
            _ => self.memo.len() as u32,
        };
        if self.memo.len() >= MAX_MEMO {
            return Err(format!("more than {MAX_MEMO} values are remembered; store names in another file"));
        }
        let value = self.pop()?;
        self.push(value)?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Step<()> {
        let number = match opcode {
            b'h' => u8::from_le_bytes(self.take_array()?).into(),
            _ => u32::from_le_bytes(self.take_array()?),
        };
        match self.memo.get(&number) {
            Some(&value) => self.push(value),
            None => Err(format!("value {number} was never remembered")),
        }
    }

    fn global(&mut self, in_line: bool) -> Step<()> {
        let (module, name) = if in_line {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (self.bytes_of(module), self.bytes_of(name)),
                _ => return Err("a name is not text".to_owned()),
            }
        };
        match Global::named(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(format!(
                "it refers to {}.{}, which is no part of an array of numbers; nothing in a pickle is ever run",
                printable(module),
                printable(name)
            )),
        }
    }

    /// A line of a `GLOBAL`, without its end.
    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(len) = rest.iter().take(256).position(|&byte| byte == b'\n') else {
            return Err("a name has no end".to_owned());
        };
        let line = self.take(len)?;
        self.take(1)?;
        Ok(line)
    }

    /// A function of the closed list, and its arguments: notes what it makes.
    fn reduce(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.tuple_of(arguments).unwrap_or_default();
        let made = match (function, arguments) {
            (Value::Global(Global::Reconstruct), [Value::Global(Global::Ndarray), ..]) => Object::Blank,
            (Value::Global(Global::Dtype), &[Value::Text(code), ..]) => Object::Dtype { code, order: None },
            (Value::Global(Global::Encode), &[Value::Text(text), Value::Text(coding)]) => {
                if !matches!(self.bytes_of(coding), b"latin1" | b"latin-1") {
                    return Err(format!("text is encoded as {}, not latin1", printable(self.bytes_of(coding))));
                }
                return self.push(Value::Text(Text { latin1: true, ..text }));
            }
            (
                Value::Global(Global::FromBuffer),
                &[Value::Text(payload), Value::Object(dtype), Value::Object(shape), Value::Text(order)],
            ) => Object::Array { dtype, shape, column_major: self.bytes_of(order) == b"F", payload },
            (Value::Global(global), _) => return Err(format!("{global:?} is called with arguments it does not take")),
            _ => return Err("something is called that is no function".to_owned()),
        };
        self.make(made)
    }

    /// Fills an array or completes an element type.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let state = self.tuple_of(state).map(<[Value]>::to_vec).unwrap_or_default();
        let object = self.top_object()?;
        match (&mut *object, &state[..]) {
            (
                Object::Blank,
                &[_, Value::Object(shape), Value::Object(dtype), Value::Bool(column_major), Value::Text(payload)],
            ) => *object = Object::Array { dtype, shape, column_major, payload },
            (Object::Blank, [_, _, _, _, Value::Object(_)]) => {
                return Err("an array holds Python objects; store numbers".to_owned());
            }
            (
                Object::Dtype { order, .. },
                &[Value::Int(_), Value::Text(given), Value::None, Value::None, Value::None, ..],
            ) => *order = Some(given),
            (Object::Dtype { .. }, _) => {
                return Err("an array has records for elements; store plain numbers".to_owned());
            }
            _ => return Err("a value is given a state that it does not take".to_owned()),
        }
        Ok(())
    }
}
