use super::*;

fn args() -> Table1Args {
    Table1Args {
        study: StudyArgs::default(),
        paper: false,
        hypernets: None,
        g: None,
        networks: None,
        architectures: None,
        every: None,
        seeds: None,
    }
}

#[test]
fn the_papers_table_has_its_sizes_and_schedule() {
    let paper = Table1Args { paper: true, ..args() };
    let options = Options::of(&paper).unwrap();
    assert_eq!((options.architectures, options.every, options.seeds, options.networks), (500, 10, 5, 1));
    assert_eq!(options.g, [4, 8, 16]);
    let sizes: Vec<HyperConfig> = options.hypernets.iter().map(|text| size(text).unwrap()).collect();
    let [first, .., last] = &sizes[..] else { panic!("five sizes") };
    assert_eq!((sizes.len(), &first.growth, &first.layers[..]), (5, &10.into(), &[12, 15, 8][..]));
    assert_eq!((&last.growth, &last.layers[..], last.stem), (&25.into(), &[25, 25, 25][..], 7));
    let run = settings(&paper).unwrap().run;
    assert_eq!((run.preset, run.retrain.retrain_epochs), (Some(Preset::V1), Some(100)));
    assert_eq!(settings(&args()).unwrap().run.preset, Some(Preset::SmallV1));
    // What is typed counts.
    let typed = Table1Args { every: Some(25), g: Some(vec![2]), ..paper };
    let options = Options::of(&typed).unwrap();
    assert_eq!((options.every, options.g, options.seeds), (25, vec![2], 5));
}

#[test]
fn every_width_of_the_defaults_fits_its_space() {
    for (paper, space) in [(true, Space::v1()), (false, Space::small_v1())] {
        for g in Options::of(&Table1Args { paper, ..args() }).unwrap().g {
            let space = with_width(&space, g).unwrap();
            assert_eq!((space.width_units(), space.max_bank_size), (g, 1));
        }
    }
    assert_eq!(with_width(&Space::v2(), 4).unwrap().max_bank_size, 4, "a bank is no wider than an op");
    assert!(with_width(&Space::v1(), 0).unwrap_err().to_string().starts_with("--g: 0 does not fit"));
}

#[test]
fn what_cannot_be_a_table_is_refused() {
    let refused = |args: Table1Args| Options::of(&args).unwrap_err().to_string();
    assert!(refused(Table1Args { every: Some(0), ..args() }).starts_with("--every: 0"));
    assert!(refused(Table1Args { networks: Some(0), ..args() }).starts_with("--networks: 0"));
    let few = refused(Table1Args { architectures: Some(10), every: Some(5), ..args() });
    assert!(few.starts_with("--architectures: every 5 of 10 are 2 networks"), "{few}");
    assert!(refused(Table1Args { g: Some(vec![4, 4]), ..args() }).starts_with("--g: names something twice"));
    for text in ["10", "x3-4", "0x1-1-1", "10x", "10x3--2", "10x3-a"] {
        assert!(size(text).unwrap_err().to_string().contains("GROWTHxLAYERS"), "{text}");
    }
    let from = StudyArgs { from: Some("runs/x".into()), ..StudyArgs::default() };
    assert!(settings(&Table1Args { study: from, ..args() }).unwrap_err().to_string().starts_with("--from: "));
}

#[test]
fn every_jth_is_taken_from_the_best_on() {
    assert_eq!(every(&[5.0, 1.0, 4.0, 2.0, 3.0], 2), [(0, 1), (2, 4), (4, 0)]);
    assert_eq!(means(&[vec![1.0, 5.0], vec![2.0, 7.0]]), [1.5, 6.0]);
}

fn columns() -> (Options, Vec<Column>) {
    let options = Options { hypernets: vec!["4x1-1".into(), "8x2-2".into()], ..Options::of(&args()).unwrap() };
    let weights = [100, 200].map(|hypernet| Weights { hypernet, learned: 50.0, generated: 25.0, ratio: 2.0 });
    let row = |i: usize, scores: [f64; 2], params: u64, test_err: [f64; 2]| Row {
        id: format!("{i}"),
        rank: i,
        scores: scores.to_vec(),
        params,
        macs: 1000 - params,
        test_err: test_err.to_vec(),
    };
    // The first HyperNet ranks as the errors do, the second the other way round.
    let rows = vec![
        row(1, [10.0, 40.0], 400, [5.0, 6.0]),
        row(2, [20.0, 30.0], 300, [7.0, 6.5]),
        row(3, [30.0, 20.0], 200, [8.0, 9.0]),
        row(4, [40.5, 10.0], 100, [11.0, 10.0]),
    ];
    let scores = [vec![10.0, 20.0, 30.0, 40.5, 99.5], vec![40.0, 30.0, 20.0, 10.0, 0.0]];
    let column = Column::of(4, &options, &weights, &scores, rows, 1);
    (options, vec![column.clone(), Column { g: 8, ..column }])
}

#[test]
fn a_cell_compares_its_own_scores_with_the_mean_test_errors() {
    let (_, columns) = columns();
    let [first, second] = &columns[0].cells[..] else { panic!("two HyperNets") };
    assert_eq!((first.hypernet.as_str(), first.weights.hypernet, first.mean_val_err), ("4x1-1", 100, 40.0));
    let rho = |prediction: &Prediction| prediction.spearman.unwrap().value;
    assert_eq!((rho(&first.prediction), rho(&second.prediction)), (1.0, -1.0));
    let by_hand = crate::statistics::pearson(&[10.0, 20.0, 30.0, 40.5], &[5.5, 6.75, 8.5, 10.5]).unwrap();
    let found = first.prediction.pearson.unwrap();
    assert_eq!((found.value, found.p), (by_hand.coefficient, by_hand.p));
    let [mean, params, macs] = &columns[0].others[..] else { panic!("three others") };
    // Means are 25, 25, 25 and 25.25: three alike, and the last is the worst.
    assert!(rho(mean) > 0.7 && rho(params) == 1.0 && rho(macs) == -1.0);
}

#[test]
fn the_tables_have_a_line_for_each_cell_and_network() {
    let (options, columns) = columns();
    let cells = report::cells_csv(&columns);
    assert_eq!(cells.lines().count(), 1 + 2 * (2 + 3) * 3);
    assert!(cells.contains("\n8,8x2-2,200,50,25,2,spearman,-1,"), "{cells}");
    let networks = report::networks_csv(&options, &columns);
    assert_eq!(networks.lines().count(), 1 + 2 * 4);
    assert!(networks.contains("\n4,2,2,300,700,20,30,7;6.5\n"), "{networks}");
    let columns_in =
        |text: &str| text.lines().map(|line| line.split(',').count()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((columns_in(&cells).len(), columns_in(&networks).len()), (1, 1));
}
