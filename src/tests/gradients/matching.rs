//! The differentiable parts of graph matching: message passing and all affinities.

use candle_core::Var;
use lvmed::matching::Graphs;
use lvmed::matching::affinity::{cosines, differences, local, mix};
use lvmed::matching::message::{Layer, pass, propagation};
use lvmed::matching::{Convolution, DegreeNorm, Local};

use super::{check, variable};

fn graphs() -> Graphs {
    let one = vec![(0, 1), (1, 2), (2, 0), (0, 3), (3, 1)];
    let other = vec![(3, 2), (2, 1), (1, 0), (0, 2), (2, 0)];
    Graphs::new(4, vec![one, other]).expect("graphs")
}

#[test]
fn message_passing() {
    let features = variable(&[2, 4, 3], 1);
    let (first, second) = (variable(&[3, 5], 2), variable(&[5, 2], 3));
    let layer = |heard: &Var| Layer { heard: heard.as_tensor().clone(), own: None };

    for norm in [DegreeNorm::Kipf, DegreeNorm::Paper] {
        let links = propagation(&graphs(), Convolution::Gcn, norm, &features).expect("links");
        check(&[&features, &first, &second], || {
            pass(&features, &links, &[layer(&first), layer(&second)]).expect("passed")
        });
    }
}

#[test]
fn message_passing_with_weights_of_its_own() {
    let features = variable(&[2, 4, 3], 1);
    let (heard, own) = (variable(&[3, 2], 2), variable(&[3, 2], 8));
    let kind = (Convolution::GraphConv, DegreeNorm::Kipf);

    let links = propagation(&graphs(), kind.0, kind.1, &features).expect("links");

    check(&[&features, &heard, &own], || {
        let own = Some(own.as_tensor().clone());
        let layer = Layer { heard: heard.as_tensor().clone(), own };
        pass(&features, &links, &[layer]).expect("passed")
    });
}

#[test]
fn affinities_of_nodes_and_edges() {
    let (source, target) = (variable(&[2, 4, 3], 4), variable(&[2, 4, 3], 5));

    check(&[&source, &target], || cosines(&source, &target).expect("cosines"));
    check(&[&source, &target], || {
        let spans = differences(&source, &graphs()).expect("spans");
        let others = differences(&target, &graphs()).expect("spans");
        cosines(&spans, &others).expect("cosines")
    });
}

/// Places of the cells of maps of 2 by 3 and of 2 by 2 cells, five images each.
fn places() -> [Vec<Vec<[f32; 2]>>; 2] {
    let of = |image: usize, columns: usize| {
        let place = |at: usize| {
            let (row, column) = ((at / columns) as f32, (at % columns) as f32);
            [10.0 * row + image as f32, 7.0 * column - 1.5 * image as f32]
        };
        (0..2 * columns).map(place).collect()
    };
    [(0..5).map(|image| of(image, 3)).collect(), (0..5).map(|image| of(4 - image, 2)).collect()]
}

#[test]
fn local_affinities() {
    // Five images make two graphs of two nodes; the fifth gets a gradient of zero.
    let (source, target) = (variable(&[5, 4, 2, 3], 6), variable(&[5, 4, 2, 2], 7));

    for closest in [None, Some(3), Some(1)] {
        check(&[&source, &target], || {
            local((&source, &target), places(), 2, closest).expect("affinities")
        });
    }
}

#[test]
fn mixtures_of_both_readings() {
    let (global, apart) = (variable(&[2, 3, 3], 8), variable(&[2, 2, 3, 3], 9));

    for reading in [Local::Eq3, Local::Pseudo] {
        for way in 0..2 {
            check(&[&global, &apart], || {
                mix(&global, Some(&apart), 0.7, reading).expect("mixed")[way].clone()
            });
        }
    }
}
