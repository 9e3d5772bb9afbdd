//! How a pickle's refusal is worded: names of opcodes that the machine does not know, and names from the file.

/// A name from the file, short and on one line.
pub(super) fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(64)]).escape_debug().to_string()
}

/// Why `opcode`, which the machine does not know, is refused.
pub(super) fn refused(opcode: u8) -> String {
    let name = match opcode {
        b'0' => "POP",
        b'1' => "POP_MARK",
        b'2' => "DUP",
        b'F' => "FLOAT",
        b'G' => "BINFLOAT",
        b'I' => "INT",
        b'L' => "LONG",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'd' => "DICT",
        b'g' => "GET",
        b'i' => "INST",
        b'l' => "LIST",
        b'o' => "OBJ",
        b'p' => "PUT",
        0x81 => "NEWOBJ",
        0x82..=0x84 => "EXT",
        0x8b => "LONG4",
        0x8f => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x92 => "NEWOBJ_EX",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        other => return format!("{other:#04x} is no opcode"),
    };
    format!("opcode {name} is refused, because no array of numbers needs it")
}
