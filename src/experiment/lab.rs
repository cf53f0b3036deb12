//! Where experiments time their cases.

use super::{Experiment, ModelAt, Scale};
use crate::machine::ceilings::reread_gb_s;
use crate::machine::device::DeviceKind;
use crate::measure::Progress;
use crate::measure::samples::{CEILING_TOLERANCE, size_class};
use crate::model::timed::TimedModel;
use crate::results::{Raw, ResultsDir, SampleRow, Table};
use crate::roofline::Ceilings;
use anyhow::Result;
use mlx_rs::memory::{active_memory, clear_cache, peak_memory, reset_peak_memory};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is timed, as often as the experiment has passes.
pub struct Case<'m> {
    /// Its row but for what a sample adds.
    pub row: SampleRow,
    /// Bytes that the whole chain touches again and again; if they fit a cache, they may be read faster than memory. None
    /// for what is no faster than a ceiling by definition: a copy, or what moves nothing.
    pub touched: Option<u64>,
    /// Does the whole chain once and gives its seconds.
    pub run: Box<dyn FnMut() -> Result<f64> + 'm>,
}

/// What no valid sample exceeds.
pub struct Limits {
    device: DeviceKind,
    ceilings: Ceilings,
    /// Bytes a second of working sets that may stay in a cache, by size.
    reread: BTreeMap<u64, f64>,
}

impl Limits {
    pub fn new(device: DeviceKind, ceilings: Ceilings) -> Limits {
        Limits { device, ceilings, reread: BTreeMap::new() }
    }

    /// Measures what reading `touched` bytes again and again is limited to.
    fn prepare(&mut self, touched: u64) {
        let device = self.device;
        let size = size_class(touched);
        self.reread.entry(size).or_insert_with(|| 1e9 * reread_gb_s(device, size as usize));
    }

    /// Whether `seconds` for so many bytes and operations are less than the machine can take.
    pub fn exceeded(&self, touched: u64, bytes: u64, flops: f64, seconds: f64) -> bool {
        let reread = self.reread.get(&size_class(touched)).copied().unwrap_or(0.0);
        let bandwidth = self.ceilings.bandwidth_bytes_per_s.max(reread);
        bytes as f64 / seconds > CEILING_TOLERANCE * bandwidth
            || flops / seconds > CEILING_TOLERANCE * self.ceilings.matrix_flops_per_s
    }
}

/// The machine with what is to be measured on it.
pub struct Lab<'a> {
    pub scale: &'a Scale,
    pub device: DeviceKind,
    machine: String,
    seed: u64,
    results: &'a ResultsDir,
    limits: Limits,
    progress: &'a mut dyn Progress,
    /// Models in memory.
    models: Vec<(ModelAt, Rc<TimedModel>)>,
    /// The experiment that is going on, its samples so far, and its share of the time.
    experiment: u64,
    table: Option<Table<SampleRow>>,
    time: Duration,
    began: Instant,
}

impl<'a> Lab<'a> {
    pub fn new(
        scale: &'a Scale,
        device: DeviceKind,
        machine: String,
        ceilings: Ceilings,
        results: &'a ResultsDir,
        seed: u64,
        progress: &'a mut dyn Progress,
    ) -> Lab<'a> {
        let limits = Limits::new(device, ceilings);
        let (models, time, began) = (Vec::new(), Duration::ZERO, Instant::now());
        Lab { scale, device, machine, seed, results, limits, progress, models, experiment: 0, table: None, time, began }
    }

    /// Runs one experiment for about `time`. What goes wrong in it is a row.
    pub fn run(&mut self, experiment: &Experiment, time: Duration) -> Result<()> {
        let table: Table<SampleRow> = self.results.table_as(&experiment.file())?;
        self.progress.stage(&format!("{:2} {}", experiment.id, experiment.name), 1);
        (self.experiment, self.table, self.time, self.began) = (experiment.id, Some(table), time, Instant::now());
        let outcome = (experiment.measure)(self);
        if let Err(error) = outcome {
            self.note_failure("experiment", &error)?;
        }
        let main = self.scale.main.clone();
        self.models.retain(|(at, _)| *at == main);
        Ok(clear_cache()?)
    }

    /// Records why something could not be timed.
    pub fn note_failure(&mut self, subject: &str, error: &anyhow::Error) -> Result<()> {
        self.progress.note(&format!("{subject}: {error:#}"));
        let row = SampleRow { error: format!("{error:#}"), ..self.row(subject) };
        self.append(row)
    }

    /// Records bytes that are counted.
    pub fn count(&mut self, row: SampleRow) -> Result<()> {
        self.append(row)
    }

    /// Whether the device is a GPU.
    pub fn on_gpu(&self) -> bool {
        self.device == DeviceKind::Gpu
    }

    /// An empty row of this experiment.
    pub fn row(&self, subject: &str) -> SampleRow {
        SampleRow {
            experiment: self.experiment,
            machine: self.machine.clone(),
            subject: subject.into(),
            launch: self.results.launch(),
            chain: 1,
            ..SampleRow::default()
        }
    }

    /// Takes the main model, which is in memory already.
    pub fn hold(&mut self, main: TimedModel) {
        self.models.push((self.scale.main.clone(), Rc::new(main)));
    }

    /// A model, loaded once an experiment; the main one stays.
    pub fn model(&mut self, at: &ModelAt) -> Result<Rc<TimedModel>> {
        if let Some((_, model)) = self.models.iter().find(|(held, _)| held == at) {
            return Ok(Rc::clone(model));
        }
        let model = Rc::new(TimedModel::load(&at.model, at.dtype, at.quantize)?);
        self.models.push((at.clone(), Rc::clone(&model)));
        Ok(model)
    }

    /// Times all cases in as many passes as the time allows, each pass in a random order of its own, after every case was
    /// run once to warm up. A case that fails then is a row with an error and is left out.
    pub fn time(&mut self, cases: Vec<Case>) -> Result<()> {
        let mut ready = Vec::new();
        let mut pass_s = 0.0;
        for mut case in cases {
            if let Some(touched) = case.touched {
                self.limits.prepare(touched);
            }
            let started = Instant::now();
            // The first run compiles and allocates; the second tells how long one takes.
            let warmed = (case.run)().and_then(|_| (case.run)());
            match warmed {
                Ok(_) => {
                    pass_s += started.elapsed().as_secs_f64() / 2.0;
                    ready.push(case);
                }
                Err(error) => self.fail(case.row, &error)?,
            }
        }
        let [fewest, most] = self.scale.passes;
        // Making the models and warming up took their part of the time.
        let left = self.time.saturating_sub(self.began.elapsed()).as_secs_f64();
        let passes = ((left / pass_s.max(1e-9)) as u64).clamp(fewest, most);
        self.progress.stage(&format!("{:2} timing {} cases", self.experiment, ready.len()), passes);
        let mut order = 0;
        for pass in 0..passes {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(1000 * self.experiment + pass);
            ready.shuffle(&mut rng);
            for case in &mut ready {
                let row = SampleRow { pass, order, ..case.row.clone() };
                if !self.is_there(&row) {
                    let row = self.sample(case, row)?;
                    self.append(row)?;
                }
                order += 1;
            }
            self.progress.step();
        }
        Ok(())
    }

    fn sample(&self, case: &mut Case, row: SampleRow) -> Result<SampleRow> {
        reset_peak_memory()?;
        let seconds = match (case.run)() {
            Ok(seconds) => seconds / row.chain.max(1) as f64,
            Err(error) => return Ok(SampleRow { error: format!("{error:#}"), ..row }),
        };
        let rate = |amount: f64| (amount > 0.0).then(|| amount / seconds / 1e9);
        Ok(SampleRow {
            time_ms: Some(1e3 * seconds),
            bandwidth_gb_s: rate(row.bytes as f64),
            rate_gflop_s: rate(row.flops),
            active_bytes: Some(active_memory()? as u64),
            peak_bytes: Some(peak_memory()? as u64),
            resident_bytes: (!self.on_gpu()).then(resident_bytes).flatten(),
            invalid: case.touched.is_some_and(|held| self.limits.exceeded(held, row.bytes, row.flops, seconds)),
            ..row
        })
    }

    fn fail(&mut self, row: SampleRow, error: &anyhow::Error) -> Result<()> {
        self.progress.note(&format!("{}: {error:#}", row.subject));
        self.append(SampleRow { error: format!("{error:#}"), ..row })
    }

    fn is_there(&self, row: &SampleRow) -> bool {
        self.table.as_ref().is_some_and(|table| table.contains(&row.key()))
    }

    /// A row that an earlier launch left is not repeated.
    fn append(&mut self, row: SampleRow) -> Result<()> {
        match &mut self.table {
            Some(table) if !table.contains(&row.key()) => table.append(row),
            _ => Ok(()),
        }
    }
}

/// Resident memory of this process, where the system says.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| 1024 * kib)
}

#[cfg(test)]
mod tests {
    use super::super::operations::{evaluation_seconds, linears};
    use super::*;
    use crate::results::{Identity, Kind};
    use mlx_rs::Dtype;
    use mlx_rs::ops::ones_dtype;

    const CEILINGS: Ceilings =
        Ceilings { bandwidth_bytes_per_s: 200e9, read_bytes_per_s: None, matrix_flops_per_s: 1e13 };

    /// Runs `measure` as an experiment in `folder` and gives all rows that are there then.
    fn rows(folder: &std::path::Path, measure: fn(&mut Lab) -> Result<()>) -> Vec<SampleRow> {
        crate::machine::device::select(Some(DeviceKind::Cpu)).unwrap();
        let scale = Scale { passes: [3, 3], ..Scale::auto(false, 1 << 30, Duration::from_secs(1)) };
        let identity = Identity { kind: Kind::Baseline, ..Identity::default() };
        let mut results = ResultsDir::open(folder, &identity, &scale).unwrap();
        results.begin_launch(serde_json::json!({})).unwrap();
        let experiment = Experiment { id: 99, name: "test", question: "", measure, statements: |_| Ok(Vec::new()) };
        let progress = &mut ();
        let mut lab = Lab::new(&scale, DeviceKind::Cpu, "m".into(), CEILINGS, &results, 1, progress);
        lab.run(&experiment, Duration::ZERO).unwrap();
        drop(lab);
        results.table_as::<SampleRow>(&experiment.file()).unwrap().rows().to_vec()
    }

    /// A product that nothing needs is not computed: its time cannot be what reading its weights takes.
    #[test]
    fn a_pruned_graph_is_marked_invalid() {
        fn measure(lab: &mut Lab) -> Result<()> {
            let layers = Rc::new(linears(1024, 1024, Dtype::Float32, None)?);
            let x = ones_dtype(&[1, 1, 1024], Dtype::Float32)?;
            let mut cases = Vec::new();
            for (subject, pruned) in [("whole", false), ("pruned", true)] {
                let bytes = layers.iter().map(|layer| layer.nbytes()).sum();
                let row = SampleRow { bytes, ..lab.row(subject) };
                let (layers, x) = (Rc::clone(&layers), x.clone());
                let run = move || {
                    evaluation_seconds(|| {
                        let mut y = x.clone();
                        for layer in layers.iter() {
                            y = layer.forward(&y)?;
                        }
                        Ok(vec![if pruned { x.add(&x)? } else { y }])
                    })
                };
                cases.push(Case { touched: Some(bytes), row, run: Box::new(run) });
            }
            lab.time(cases)
        }
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(folder.path(), measure);
        assert_eq!(rows.len(), 6);
        // A pause of the machine can make one of them slow enough to be possible.
        assert!(rows.iter().any(|row| row.subject == "pruned" && row.invalid), "{rows:?}");
        for row in rows {
            assert!(!row.invalid || row.subject == "pruned", "{row:?}");
            assert!(row.peak_bytes.is_some_and(|peak| peak >= row.bytes), "{row:?}");
        }
    }

    #[test]
    fn passes_are_complete_in_orders_of_their_own_and_nothing_is_measured_twice() {
        fn measure(lab: &mut Lab) -> Result<()> {
            let case = |name: usize| Case {
                row: SampleRow { outputs: Some(name as u64), ..lab.row("sleep") },
                touched: None,
                run: Box::new(move || if name == 5 { anyhow::bail!("no\nmemory") } else { Ok(1e-3) }),
            };
            lab.time((0..6).map(case).collect())
        }
        let folder = tempfile::tempdir().unwrap();
        let first = rows(folder.path(), measure);
        // Five cases of three passes; the sixth fails when it is warmed up, which is a row.
        assert_eq!(first.len(), 16);
        assert_eq!(first[0].error, "no memory");
        let order = |pass: u64| -> Vec<Option<u64>> {
            first.iter().filter(|row| row.pass == pass && row.time_ms.is_some()).map(|row| row.outputs).collect()
        };
        assert!((0..3).all(|pass| order(pass).len() == 5));
        assert!(order(0) != order(1) || order(1) != order(2));
        assert_eq!(rows(folder.path(), measure), first);
    }
}
