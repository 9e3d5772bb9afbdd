use super::*;
use crate::data::testarrays::{Entry, committed_pickles, pickle, pickled_array};
use crate::data::testdata::refusal;
use crate::rng::{Rng, Stream};

fn parse(bytes: &[u8]) -> Result<Pickle> {
    Pickle::parse(Path::new("batch"), Bytes::from(bytes.to_vec()))
}

/// The refusal of `opcodes` as a pickle of protocol 4.
fn refuse(opcodes: &[u8]) -> String {
    refusal(parse(&[b"\x80\x04", opcodes].concat()))
}

#[test]
fn pickles_of_every_python_numpy_and_protocol_hold_the_same() {
    let pickles = committed_pickles();
    assert_eq!(pickles.len(), 8);
    let data: Vec<u8> = (0..12).map(|i| i * 23).collect();
    for (path, bytes) in pickles {
        let pickle = Pickle::parse(&path, bytes.into()).unwrap_or_else(|e| panic!("{e}"));
        let array = |key| pickle.array(key).unwrap_or_else(|e| panic!("{e}"));
        for key in ["data", "columns"] {
            let array = array(key);
            assert_eq!((array.dtype, &array.shape[..]), (crate::data::numpy::U8, &[2, 6][..]), "{}", path.display());
            assert_eq!(array.bytes[..], data, "{key} of {}", path.display());
        }
        let mean = array("mean");
        assert_eq!((mean.dtype, mean.len()), (Dtype::parse('<', "f8").unwrap(), 2));
        assert_eq!((mean.number(0), mean.number(1)), (0.5, -1.25));
        assert_eq!(pickle.labels("labels", 0..=300).unwrap(), [7, 300]);
        assert_eq!(pickle.labels("fine_labels", 1..=100).unwrap(), [2, 98]);
        assert_eq!(pickle.names("filenames", 2).unwrap(), ["a.png", "b.png"]);
    }
}

#[test]
fn elements_stay_where_they_lie() {
    let elements: Vec<u8> = (0..200).collect();
    let bytes = Bytes::from(pickle(&[("data", Entry::Bytes(&elements, [2, 100]))]));
    let array = Pickle::parse(Path::new("batch"), bytes.clone()).unwrap().array("data").unwrap();
    assert_eq!(array.bytes[..], elements);
    assert_eq!(array.bytes.as_ptr(), bytes[array.at..].as_ptr());
}

#[test]
fn foreign_names_are_refused_by_name_and_nothing_is_run() {
    for (opcodes, name) in [
        (&b"cos\nsystem\n(U\x04exittR."[..], "os.system"),
        (b"cposix\nsystem\nU\x04exit\x85R.", "posix.system"),
        (b"\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
        (b"c__builtin__\ngetattr\ncnumpy\ndtype\n", "__builtin__.getattr"),
        (b"ca\x1b\xff\nb\n.", "a\\u{1b}\u{fffd}.b"),
    ] {
        let message = refuse(opcodes);
        assert!(message.contains(&format!("refers to {name}, which")), "{message}");
        assert!(message.contains("nothing in a pickle is ever run"), "{message}");
    }
}

#[test]
fn opcodes_that_make_objects_are_refused_by_name() {
    for (opcodes, name) in [
        (&b"(ios\nsystem\n"[..], "INST"),
        (b"(cnumpy\nndarray\no", "OBJ"),
        (b"cnumpy\nndarray\n)\x81", "NEWOBJ"),
        (b"\x82\x01", "EXT"),
        (b"Pid\n", "PERSID"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\x8f", "EMPTY_SET"),
        (b"G\0\0\0\0\0\0\0\0", "BINFLOAT"),
    ] {
        assert!(refuse(opcodes).contains(&format!("opcode {name} is refused")), "{}", refuse(opcodes));
    }
    assert!(refuse(b"\x01").contains("at byte 2, 0x01 is no opcode"));
}

#[test]
fn old_protocols_and_other_files_are_told() {
    for bytes in [&b"(dp1\nS'data'\n"[..], b"}q\x01.", b"PK\x03\x04", b"\x93NUMPY"] {
        assert!(refusal(parse(bytes)).contains("at byte 0, no pickle of protocol 2 or later begins here"));
    }
    assert!(refusal(parse(b"\x80\x06N.")).contains("protocol 6 is not one of 2 to 5"));
}

#[test]
fn a_pickle_cut_short_anywhere_is_refused_and_so_is_one_with_more_behind() {
    for (path, bytes) in committed_pickles() {
        for len in 0..bytes.len() {
            let message = refusal(Pickle::parse(&path, bytes[..len].to_vec().into()));
            assert!(message.contains("at byte "), "{message}");
        }
        let longer = [&bytes[..], b"\0\0"].concat();
        assert!(refusal(parse(&longer)).contains("the pickle ends here, but 2 more bytes follow"));
    }
}

#[test]
fn arrays_that_are_not_numbers_in_this_order_are_refused() {
    let refuse = |opcodes: Vec<u8>| {
        let bytes = pickle(&[("data", Entry::Raw(&opcodes))]);
        refusal(parse(&bytes).and_then(|pickle| pickle.array("data")))
    };
    let objects = pickled_array("|O8", &[1], false, b"");
    assert!(refuse(objects).contains("\"data\" holds Python objects"));
    let message = refuse(pickled_array(">i4", &[1], false, &[0; 4]));
    assert!(message.contains("is big-endian (>i4); store x.astype(\"<i4\")"), "{message}");
    let message = refuse(pickled_array("<f4", &[1, 2, 2], true, &[0; 16]));
    assert!(message.contains("column by column (Fortran order)"), "{message}");
    let message = refuse(pickled_array("|u1", &[2, 3], false, &[0; 7]));
    assert!(
        message.contains("of shape (2, 3) needs 6 bytes from byte") && message.contains("where 7 follow"),
        "{message}"
    );
    let message = refuse(pickled_array("<f8", &[1 << 30, 1 << 30, 1 << 30], false, &[0; 8]));
    assert!(message.contains("needs more than 2^64 bytes"), "{message}");
    assert!(refuse(b"K\x01".to_vec()).contains("\"data\" is no numpy array"));
    assert!(refuse(b"]".to_vec()).contains("\"data\" is no numpy array"));
    // The state of an object array is a list, and that of a record type has names.
    let mut objects = pickled_array("|O8", &[1], false, b"");
    objects.truncate(objects.len() - 7);
    objects.extend(b"]tb");
    assert!(refuse(objects).contains("an array holds Python objects"));
}

#[test]
fn labels_are_whole_numbers_in_range_and_names_are_text() {
    let refuse = |entry: Entry| refusal(parse(&pickle(&[("labels", entry)])).unwrap().labels("labels", 1..=10));
    assert!(refuse(Entry::Labels(&[1, 10, 11])).contains("label 11 of image 2 is not in 1 to 10"));
    assert!(refuse(Entry::Labels(&[0])).contains("label 0 of image 0 is not in 1 to 10"));
    assert!(refuse(Entry::Names(&["1"])).contains("the label of image 0 is no whole number"));
    // LONG1 holds what four bytes cannot, and a byte more than eight is too much.
    assert!(refuse(Entry::Raw(b"](\x8a\x05\0\0\0\0\x80e")).contains("label -549755813888 of image 0"));
    assert!(self::refuse(b"\x8a\x09\0\0\0\0\0\0\0\0\0").contains("an integer of 9 bytes"));
    let few = pickle(&[("label_names", Entry::Names(&["cat", "dog"]))]);
    let message = refusal(parse(&few).unwrap().names("label_names", 3));
    assert!(message.contains("\"label_names\" is no list of 3 names"), "{message}");
    assert!(refusal(parse(&few).unwrap().array("data")).contains("batch: \"data\" is missing"));
    assert!(refusal(parse(b"\x80\x02].").unwrap().array("data")).contains("holds no dict"));
}

#[test]
fn bombs_are_bounded() {
    let repeated = |part: &[u8], times: usize| part.repeat(times);
    // Deep nesting costs one object a level, and neither reading nor dropping recurses.
    let deep = [&b"\x80\x02"[..], &repeated(b"]", 3000), &repeated(b"a", 2999), b"."].concat();
    assert!(parse(&deep).is_ok());
    // A list of two references to the list before doubles what it stands for with every level, but nothing walks it.
    let double: Vec<u8> = (0..200u8).flat_map(|i| [b']', b'q', i + 1, b'(', b'h', i, b'h', i, b'e']).collect();
    let doubled = [&b"\x80\x02]q\0"[..], &double, &repeated(b"a", 200), b"."].concat();
    assert_eq!(parse(&doubled).unwrap().heap.objects.len(), 201);
    // A list that holds itself.
    assert!(parse(b"\x80\x02]q\0h\0a.").is_ok());
    assert!(refuse(&repeated(b"N", 5000)).contains("more than 4096 values wait"));
    assert!(refuse(&repeated(b"(", 5000)).contains("more than 4096 marks are open"));
    let batch = [b"(", &repeated(b"N", 4000)[..], b"e"].concat();
    assert!(refuse(&[b"]", &repeated(&batch, 600)[..]].concat()).contains("holds more than 2097152 values"));
    assert!(
        refuse(&[b"N", &repeated(b"\x94", 300_000)[..]].concat()).contains("more than 262144 values are remembered")
    );
    // A length that the file does not have allocates nothing.
    assert!(refuse(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f").contains("is too large"));
    assert!(refuse(b"B\xff\xff\xff\xff").contains("needs 4294967295 more bytes where 0 are left"));
    assert!(refuse(b"\x95\xff\xff\xff\xff\0\0\0\0").contains("a frame of 4294967295 bytes begins where 0 are left"));
}

#[test]
fn stacks_that_do_not_fit_their_opcodes_are_refused() {
    for (opcodes, why) in [
        (&b"."[..], "no value to use"),
        (b"e", "no mark"),
        (b"(a", "no value"),
        (b"N(.", "no value"),
        (b"NN.", "belong to nothing"),
        (b"NNa", "no container"),
        (b"}Na", "no list"),
        (b"](Nu", "no dict"),
        (b"}(Nu", "a key without a value"),
        (b"h\x07", "value 7 was never remembered"),
        (b"NNR", "no function"),
        (b"cnumpy\ndtype\n)R", "Dtype is called with arguments"),
        (b"cnumpy\ndtype\nN\x85R", "Dtype is called with arguments"),
        (b"]Nb", "does not take"),
        (b"NN\x93", "a name is not text"),
        (b"c_codecs\nencode\nU\x01aU\x05utf-8\x86R", "encoded as utf-8, not latin1"),
        (b"cnumpy\ndtype\nU\x02u1\x85R(K\x03U\x01|NU\x01xNtb", "records for elements"),
        (b"cnumpy", "a name has no end"),
    ] {
        assert!(refuse(opcodes).contains(why), "{why}: {}", refuse(opcodes));
    }
}

#[test]
fn mutated_pickles_are_read_or_refused_but_never_panic() {
    let pickles = committed_pickles();
    let mut rng = Rng::new(3, Stream::Init);
    let mut refused = 0;
    for round in 0..4000 {
        let mut bytes = pickles[round % pickles.len()].1.clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = if rng.below(2) == 0 { rng.below(256) as u8 } else { bytes[rng.below(bytes.len())] };
        }
        if let Err(error) = check(&bytes) {
            refused += 1;
            assert!(matches!(error, Error::Data { .. }), "{error}");
        }
    }
    assert!((1000..4000).contains(&refused), "{refused}");
}
