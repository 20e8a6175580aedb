//! Replies and likelihoods of the shipped model, on the processor and on the emulation.

use super::*;
use crate::config::spec::SamplingRecipe;
use crate::stage::written::Finish;
use std::num::NonZeroUsize;

/// Between log-probabilities that the head and a row of logits give.
const CLOSE: f64 = 1e-5;

fn shipped(device: Device) -> Session {
    let access = DeviceAccess {
        emulation: Some(lions_emulation::LIBRARY.into()),
        ..DeviceAccess::default()
    };
    Session::open(&OpenModel {
        model: Path::new("models/stories260k"),
        chat_template: None,
        precision: Precision::F32,
        device,
        access: &access,
    })
    .unwrap()
}

fn sampling(temperature: f64, tokens: usize) -> SamplingRecipe {
    SamplingRecipe {
        temperature: temperature.try_into().unwrap(),
        top_p: 1.0.try_into().unwrap(),
        max_new_tokens: NonZeroUsize::new(tokens).unwrap(),
    }
}

fn ask<'a>(prompts: &'a [Vec<u32>], sampling: &'a SamplingRecipe, until: &'a [String]) -> Ask<'a> {
    Ask {
        prompts,
        samples: 1,
        sampling,
        until,
        chat: false,
        seed: 3,
        top: None,
    }
}

#[test]
fn the_likeliest_tokens_are_in_order_and_their_shares_sum_to_one() {
    let logits = [0.0, 2.0, 1.0, 2.0];
    let all = likeliest(&logits, 9);
    let ids: Vec<u32> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 3, 2, 0]);
    let sum: f64 = all.iter().map(|(_, logp)| logp.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-12);
    assert_eq!(likeliest(&logits, 2), all[..2]);
    assert!(likeliest(&logits, 0).is_empty());
}

// models/stories260k/expected.json: greedy continuation of BOS by transformers.
#[test]
fn a_text_is_continued_where_it_ends_and_its_pieces_are_the_reply() {
    let mut session = shipped(Device::Cpu);
    let (greedy, until) = (sampling(0.0, 20), []);
    let prompts = [session.encode("Once upon a time, there was").unwrap()];
    let mut told = String::new();
    let replies = session
        .write(&ask(&prompts, &greedy, &until), &mut |piece| {
            told.push_str(piece.text);
            true
        })
        .unwrap();
    assert_eq!(replies[0].text, told);
    assert!(told.starts_with(" a "), "{told:?}");
    assert_eq!((replies[0].tokens, replies[0].finish), (20, Finish::Length));
    let until = [told[8..12].to_owned()];
    let cut = session
        .write(&ask(&prompts, &greedy, &until), &mut |_| true)
        .unwrap();
    let at = told.find(&until[0]).unwrap();
    assert_eq!(
        (cut[0].text.as_str(), cut[0].finish),
        (&told[..at], Finish::Stop)
    );
}

#[test]
fn a_reply_that_is_told_to_end_keeps_what_it_has() {
    let mut session = shipped(Device::Cpu);
    let (greedy, until) = (sampling(0.0, 50), []);
    let prompts = [session.encode("Once").unwrap()];
    let mut pieces = 0;
    let replies = session
        .write(&ask(&prompts, &greedy, &until), &mut |_| {
            pieces += 1;
            pieces < 5
        })
        .unwrap();
    assert_eq!(
        (replies[0].finish, replies[0].tokens),
        (Finish::Interrupted, 5)
    );
    assert!(!replies[0].text.is_empty());
}

#[test]
fn what_is_drawn_is_as_likely_as_a_scored_text_says() {
    let mut session = shipped(Device::Cpu);
    let (warm, until) = (sampling(1.0, 12), []);
    let prompt = session.encode("Once upon a time").unwrap();
    let prompts = [prompt.clone()];
    let wanted = Ask {
        top: Some(2),
        ..ask(&prompts, &warm, &until)
    };
    let replies = session.write(&wanted, &mut |_| true).unwrap();
    assert_eq!(session.write(&wanted, &mut |_| true).unwrap(), replies);
    let drawn: Vec<u32> = replies[0].logps.iter().map(|score| score.token).collect();
    assert_eq!(drawn.len(), 12);
    let whole = [prompt.clone(), drawn].concat();
    let scored = session.score(&[vec![1, 403], whole], 2).unwrap();
    assert_eq!(scored[0].len(), 1);
    for (drawn, scored) in replies[0].logps.iter().zip(&scored[1][prompt.len() - 1..]) {
        assert!(
            (drawn.logp - scored.logp).abs() < CLOSE,
            "{drawn:?} {scored:?}"
        );
        assert_eq!(drawn.top[0].0, scored.top[0].0);
        assert!(scored.top[0].1 >= scored.logp);
    }
}

#[test]
fn a_device_finds_texts_as_likely_as_the_processor() {
    let texts = [vec![1, 403, 407, 261, 300], vec![1, 269, 300]];
    let host = shipped(Device::Cpu).score(&texts, 3).unwrap();
    let device = shipped(Device::Emulated).score(&texts, 3).unwrap();
    for (host, device) in host.iter().flatten().zip(device.iter().flatten()) {
        assert!(
            (host.logp - device.logp).abs() < 1e-4,
            "{host:?} {device:?}"
        );
        let ids = |score: &TokenLogp| score.top.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(host), ids(device));
    }
}
