//! Training steps against PyTorch: two processes on the same threads, asked in turn.
//!
//! The driver starts itself again as the one side and `benches/peers/train.py` as the other. Both
//! read the name of a case a line, do it once, and answer with the seconds it took.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod cases;
mod rival;

use std::io::{BufRead, Write};

use cases::{CASES, Case, Work};
use rival::Rival;

/// Interleaved pairs behind every median.
const PAIRS: usize = 7;
/// Unmeasured rounds before them.
const WARM_UP: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = std::thread::available_parallelism()?.get();
    if arguments.first().is_some_and(|first| first == "--side") {
        return lvmed::nn::with_threads(threads, || answer(threads))?;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let peer = std::env::var("LVMED_BENCH_PYTHON").map_err(
        |_| "LVMED_BENCH_PYTHON must name a Python with PyTorch; use `make bench-train`",
    )?;
    println!("{:<44} {:>10} {:>10} {:>7}   peak MiB", "case", "ours", "PyTorch", "ratio");
    let mut lines = Vec::new();
    for case in
        CASES.iter().filter(|case| wanted.is_none_or(|wanted| case.name.contains(wanted.as_str())))
    {
        lines.push(compare(case, threads, &peer)?);
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

/// The measured side: one case a line in, the seconds of one round out.
fn answer(threads: usize) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut work: Option<(String, Work)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "memory" {
            println!("{}", rival::peak_of("self")?);
        } else if line == "gemm" {
            println!("{}", cases::gemm_seconds(threads));
        } else {
            if work.as_ref().is_none_or(|(name, _)| *name != line) {
                let case = CASES.iter().find(|case| case.name == line).ok_or("an unknown case")?;
                work = Some((line.clone(), Work::new(case)?));
            }
            let Some((_, work)) = &mut work else { continue };
            let started = std::time::Instant::now();
            work.step()?;
            println!("{}", started.elapsed().as_secs_f64());
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn compare(
    case: &Case,
    threads: usize,
    python: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut ours = Rival::ours()?;
    // PyTorch is fastest in one of two memory layouts; the better one counts.
    let mut peers = [
        Rival::torch(python, threads, "contiguous")?,
        Rival::torch(python, threads, "channels_last")?,
    ];
    let request = case.name;
    for _ in 0..WARM_UP {
        ours.ask(request)?;
        for peer in &mut peers {
            peer.ask(&case.request())?;
        }
    }
    let (mut own, mut theirs) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..PAIRS {
        own.push(ours.ask(request)?);
        for (peer, times) in peers.iter_mut().zip(&mut theirs) {
            times.push(peer.ask(&case.request())?);
        }
    }
    let own = median(own);
    let [contiguous, channels_last] = theirs.map(median);
    let (best, at) = if contiguous <= channels_last { (contiguous, 0) } else { (channels_last, 1) };
    let memory =
        [ours.ask("memory")?, peers[at].ask("memory")?].map(|bytes| bytes / f64::from(1 << 20));
    let (own_rate, peer_rate) = (case.images as f64 / own, case.images as f64 / best);
    let ratio = own_rate / peer_rate;
    println!(
        "{:<44} {own_rate:>10.2} {peer_rate:>10.2} {ratio:>7.2}   {:.0} / {:.0}",
        case.name, memory[0], memory[1]
    );
    let fraction = if case.flops > 0.0 {
        let machine = cases::GEMM_FLOPS / ours.ask("gemm")?;
        format!(",\"gflops\":{:.1},\"gemm_gflops\":{:.1}", case.flops / own / 1e9, machine / 1e9)
    } else {
        String::new()
    };
    Ok(format!(
        "{{\"bench\":\"train/{}\",\"ours\":{own_rate:.3},\"peer\":{peer_rate:.3},\"ratio\":{ratio:.3},\
         \"unit\":\"images/s\",\"better\":\"higher\",\"peak_mib\":{:.0},\"peer_peak_mib\":{:.0},\
         \"peer_layout\":\"{}\"{fraction}}}",
        case.name,
        memory[0],
        memory[1],
        ["contiguous", "channels_last"][at],
    ))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
