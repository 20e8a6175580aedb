//! Low-rank adapters (Hu et al. 2021, section 4.1): `W = W0 + (alpha / rank) B A`, of which only
//! `A (rank, in)` and `B (out, rank)` are trained.
//!
//! The sum is formed once a step and the decoder runs on it, so that every kernel and every number
//! is that of the merged model. Names and files are those of PEFT: `adapter_model.safetensors` and
//! `adapter_config.json`.

use crate::arch::{DecoderConfig, FloatFormat, Learned};
use crate::base::{PathError, SeedTree, write_atomic};
use crate::config::spec::{LoraRecipe, LoraTarget};
use crate::model::error::ModelError;
use crate::model::ops::linear;
use crate::model::weights::adapter_config::AdapterConfig;
use crate::model::weights::arrays::{ArrayWriter, Arrays, Take};
use crate::model::weights::checkpoint::{Companions, save_checkpoint};
use crate::model::weights::params::FrozenParams;
use candle_core::{DType, Device, Tensor, Var};
use rand::Rng as _;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use strum::VariantArray as _;

/// File names of PEFT.
const WEIGHTS: &str = "adapter_model.safetensors";

/// End of the name under which PEFT saves a head or an embedding beside its adapters.
const OWN_BASE: &str = ".base_layer.weight";
const CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";

/// A frozen model with trained adapters.
#[derive(Clone, Debug)]
pub struct Lora {
    base: FrozenParams,
    recipe: LoraRecipe,
    /// `A` and `B` in `f32` by PEFT's names.
    vars: BTreeMap<String, Var>,
    /// What the product is multiplied by, by the name of the weight, where it is not `alpha / rank`.
    factors: BTreeMap<String, f64>,
}

/// The part of `adapter_config.json` that says what the weights mean.
#[expect(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Debug, Serialize)]
struct Written {
    peft_type: &'static str,
    r: usize,
    lora_alpha: f64,
    target_modules: BTreeSet<&'static str>,
    bias: &'static str,
    fan_in_fan_out: bool,
    use_dora: bool,
    use_rslora: bool,
    alpha_pattern: BTreeMap<String, f64>,
    task_type: &'static str,
    base_model_name_or_path: Option<String>,
    lora_dropout: f64,
    inference_mode: bool,
}

/// PEFT's names of `A` and `B` of the weight `name`.
pub fn adapter_names(name: &str) -> [String; 2] {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    ["lora_A", "lora_B"].map(|part| format!("{PREFIX}{module}.{part}.weight"))
}

/// New adapters, `f32` on the CPU by PEFT's names, on a model of these shapes: `A` uniform within
/// `1 / sqrt(in)` (PEFT's, by Kaiming with `a = sqrt(5)`), `B` zero, so that training starts at the base model.
///
/// # Errors
/// The model has no module of a target's name.
pub fn new_adapters(
    shapes: &BTreeMap<String, Vec<usize>>,
    recipe: &LoraRecipe,
    seed: &SeedTree,
) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let rank = recipe.rank.get();
    let mut new = BTreeMap::new();
    for (name, out, width) in adapted(shapes, recipe)? {
        let [a_name, b_name] = adapter_names(name);
        let mut rng = seed.child(&a_name).rng();
        let bound = 1.0 / (width as f32).sqrt();
        let values: Vec<f32> = (0..rank * width)
            .map(|_| rng.random_range(-bound..=bound))
            .collect();
        let a = Tensor::from_vec(values, (rank, width), &Device::Cpu)?;
        new.insert(a_name, a);
        let b = Tensor::zeros((out, rank), DType::F32, &Device::Cpu)?;
        new.insert(b_name, b);
    }
    Ok(new)
}

impl Lora {
    /// New adapters: see [`new_adapters`].
    ///
    /// # Errors
    /// The model has no module of a target's name, or the device refuses.
    pub fn new(
        base: FrozenParams,
        recipe: &LoraRecipe,
        seed: &SeedTree,
    ) -> Result<Self, ModelError> {
        let first = base.iter().next();
        let device = first.map_or(Device::Cpu, |(_, t)| t.device().clone());
        let mut vars = BTreeMap::new();
        for (name, tensor) in new_adapters(&base.arrays().shapes, recipe, seed)? {
            vars.insert(name, Var::from_tensor(&tensor.to_device(&device)?)?);
        }
        Ok(Self {
            base,
            recipe: recipe.clone(),
            vars,
            factors: BTreeMap::new(),
        })
    }

    /// The trained variables by PEFT's names.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// What a training changes, for counting.
    pub fn learned(&self) -> Learned {
        self.recipe.learned()
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        let first = self.base.iter().next();
        first.map_or(Device::Cpu, |(_, t)| t.device().clone())
    }

    /// The number format of the base model.
    pub fn dtype(&self) -> DType {
        let first = self.base.iter().next();
        first.map_or(DType::F32, |(_, t)| t.dtype())
    }

    /// The weight `name` as the decoder sees it in training, differentiable in `A` and `B`; in
    /// `f32` on the CPU, else in the format of the base.
    ///
    /// # Errors
    /// The device refuses.
    pub(crate) fn weight(&self, name: &str) -> candle_core::Result<Option<Tensor>> {
        let Some(base) = self.base.get(name) else {
            return Ok(None);
        };
        let working = if base.device().is_cpu() && base.dtype() == DType::BF16 {
            DType::F32
        } else {
            base.dtype()
        };
        Ok(Some(match self.sum(name, base)? {
            Some(sum) => sum.to_dtype(working)?,
            None => base.to_dtype(working)?.detach(),
        }))
    }

    /// The weight `name` with its change in f32; none without an adapter.
    fn sum(&self, name: &str, base: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let [a, b] = adapter_names(name);
        let (Some(a), Some(b)) = (self.vars.get(&a), self.vars.get(&b)) else {
            return Ok(None);
        };
        let factor = self.factors.get(name).copied();
        let factor =
            factor.unwrap_or_else(|| self.recipe.alpha.get() / self.recipe.rank.get() as f64);
        let a = (a.as_tensor().t()?.contiguous()? * factor)?; // (in, rank)
        let change = linear(b.as_tensor(), &a, None)?; // (out, in)
        Ok(Some((base.to_dtype(DType::F32)?.detach() + change)?))
    }

    /// The merged model in `dtype`.
    ///
    /// # Errors
    /// The device refuses.
    pub fn merged(&self, dtype: DType) -> Result<FrozenParams, ModelError> {
        let mut merged = BTreeMap::new();
        for (name, _) in self.base.iter() {
            merged.insert(name.to_owned(), self.merged_weight(name, None, dtype)?);
        }
        Ok(FrozenParams::from_tensors(merged))
    }

    /// The weight `name` of the merged model in `dtype`. With `unrounded`, the weights from which those
    /// in training were rounded, the change of the adapters is added to its own.
    ///
    /// # Errors
    /// There is no such weight, or the device refuses.
    pub fn merged_weight(
        &self,
        name: &str,
        unrounded: Option<&FrozenParams>,
        dtype: DType,
    ) -> Result<Tensor, ModelError> {
        let base = unrounded.unwrap_or(&self.base).get(name);
        let missing = || ModelError::MissingParameter {
            name: name.to_owned(),
        };
        let base = base.ok_or_else(missing)?;
        Ok(match self.sum(name, base)? {
            Some(sum) => sum.detach().to_dtype(dtype)?,
            None => base.to_dtype(dtype)?,
        })
    }

    /// Adapters that PEFT or [`save_adapter`] wrote, on the model that they were trained on.
    ///
    /// # Errors
    /// A file is missing or damaged, a number is not finite; the adapters are of another kind or do not fit
    /// the model.
    pub fn load(base: FrozenParams, dir: &Path) -> Result<Self, ModelError> {
        let config = AdapterConfig::read(&dir.join(CONFIG))?;
        let path = dir.join(WEIGHTS);
        let damaged = |problem: String| ModelError::Damaged {
            path: path.clone(),
            problem,
        };
        let bytes = fs::read(&path).map_err(|e| PathError::new("read", &path, e))?;
        let mut found = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| damaged(e.to_string()))?;
        let (mut vars, mut factors) = (BTreeMap::new(), BTreeMap::new());
        for (name, weight) in base.iter() {
            let module = name.strip_suffix(".weight").unwrap_or(name);
            let [a_name, b_name] = adapter_names(name);
            let none = !found.contains_key(&a_name) && !found.contains_key(&b_name);
            if !config.may_adapt(module) || none && !config.must_adapt(module) {
                continue;
            }
            let (out, width) = weight.dims2()?;
            let rows = found.get(&a_name).and_then(|a| a.dims().first().copied());
            let rank = config.rank_of(rows.unwrap_or(0));
            factors.insert(name.to_owned(), config.factor(module, rank)?);
            for (part, shape) in [(a_name, [rank, width]), (b_name, [out, rank])] {
                let tensor = checked(found.remove(&part), &part, &shape, &path)?;
                let var = Var::from_tensor(&tensor.to_device(weight.device())?)?;
                vars.insert(part, var);
            }
        }
        if let Some(name) = found.keys().find(|name| name.ends_with(OWN_BASE)) {
            return Err(ModelError::Config {
                path: path.clone(),
                field: name.clone(),
                problem: "is a matrix of the base that the adapters bring along, which is not implemented here; \
                          `merge_and_unload` of PEFT merges such adapters"
                    .to_owned(),
            });
        }
        if let Some(name) = found.keys().min() {
            return Err(damaged(format!(
                "no place for `{name}`: the model or `target_modules` has no such matrix"
            )));
        }
        if vars.is_empty() {
            return Err(damaged("it holds no adapters".to_owned()));
        }
        let has = |target: &&LoraTarget| {
            let end = format!(".{}.weight", target.name());
            factors.keys().any(|name: &String| name.ends_with(&end))
        };
        let recipe = LoraRecipe {
            rank: config.rank,
            alpha: config.alpha,
            targets: LoraTarget::VARIANTS.iter().filter(has).copied().collect(),
        };
        Ok(Self {
            base,
            recipe,
            vars,
            factors,
        })
    }
}

/// The tensor `name` of the file `path` in `f32`, if it has the shape and is all numbers.
fn checked(
    tensor: Option<Tensor>,
    name: &str,
    shape: &[usize],
    path: &Path,
) -> Result<Tensor, ModelError> {
    let tensor = tensor.ok_or_else(|| ModelError::MissingTensor {
        name: name.to_owned(),
        expected: shape.to_vec(),
        path: path.to_path_buf(),
    })?;
    if tensor.dims() != shape {
        return Err(ModelError::Damaged {
            path: path.to_path_buf(),
            problem: format!(
                "`{name}` has shape {:?}, model and rank ask for {shape:?}",
                tensor.dims()
            ),
        });
    }
    if !tensor.dtype().is_float() {
        return Err(ModelError::WrongDtype {
            name: name.to_owned(),
            found: tensor.dtype().as_str().to_owned(),
            path: path.to_path_buf(),
        });
    }
    let tensor = tensor.to_dtype(DType::F32)?;
    let numbers: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    if numbers.iter().all(|number| number.is_finite()) {
        return Ok(tensor);
    }
    Err(ModelError::NotFinite {
        name: name.to_owned(),
        path: path.to_path_buf(),
    })
}

/// Writes adapters alone into the new folder `dir`, as PEFT reads them. The folder does not name its
/// base model. `visit` gives the bytes of `arrays`, which are in `f32` by PEFT's names.
///
/// # Errors
/// A file cannot be written, or `visit` fails.
pub fn save_adapter<E: From<ModelError>>(
    dir: &Path,
    recipe: &LoraRecipe,
    arrays: &Arrays,
    visit: impl FnOnce(&mut Take<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    let refused = |e: PathError| E::from(e.into());
    fs::create_dir_all(dir).map_err(|e| refused(PathError::new("create", dir, e)))?;
    let config = Written {
        peft_type: "LORA",
        r: recipe.rank.get(),
        lora_alpha: recipe.alpha.get(),
        target_modules: recipe.targets.iter().map(|t| t.name()).collect(),
        bias: "none",
        fan_in_fan_out: false,
        use_dora: false,
        use_rslora: false,
        alpha_pattern: BTreeMap::new(),
        task_type: "CAUSAL_LM",
        base_model_name_or_path: None,
        lora_dropout: 0.0,
        inference_mode: true,
    };
    let path = dir.join(CONFIG);
    let text = serde_json::to_string_pretty(&config).map_err(|source| ModelError::Json {
        path: path.clone(),
        source,
    })?;
    write_atomic(&path, text.as_bytes()).map_err(refused)?;
    let format = [("format", "pt".to_owned())];
    let writer = ArrayWriter::create(&dir.join(WEIGHTS), arrays, &format);
    let mut writer = writer.map_err(refused)?;
    visit(&mut |bytes| writer.take(bytes).map_err(refused))?;
    writer.finish().map_err(refused)
}

/// Writes the model in `model` with the adapters in `adapter` as the new folder `out`, in `format`, or absent in
/// the number format of the model; returns how many weights the adapters change.
///
/// # Errors
/// A file is missing or damaged, the adapters do not fit, or `out` exists.
pub fn merge_adapter(
    model: &Path,
    adapter: &Path,
    out: &Path,
    format: Option<FloatFormat>,
) -> Result<usize, ModelError> {
    let config = DecoderConfig::from_file(model)?;
    let base = FrozenParams::load(model, &config, &Device::Cpu, config.stored_dtype.into())?;
    let lora = Lora::load(base, adapter)?;
    let merged = lora.merged(format.unwrap_or(config.stored_dtype).into())?;
    save_checkpoint(out, &Companions::read(model)?, &merged)?;
    Ok(lora.vars().len() / 2)
}

/// Weights that get an adapter with their outputs and inputs, in name order.
fn adapted<'a>(
    shapes: &'a BTreeMap<String, Vec<usize>>,
    recipe: &LoraRecipe,
) -> Result<Vec<(&'a str, usize, usize)>, ModelError> {
    let mut all = Vec::new();
    for target in &recipe.targets {
        let suffix = format!(".{}.weight", target.name());
        let before = all.len();
        let of_target = shapes.iter().filter(|(name, _)| name.ends_with(&suffix));
        all.extend(of_target.filter_map(|(name, shape)| match shape[..] {
            [out, width] => Some((name.as_str(), out, width)),
            _ => None,
        }));
        if all.len() == before {
            let message = format!("the model has no `{}` to adapt", target.name());
            return Err(candle_core::Error::Msg(message).into());
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Decoder;
    use crate::model::ops::check::{noise, relative_error};
    use crate::model::weights::params::Params;
    use candle_core::Result;

    const TARGETS: [LoraTarget; 3] = [LoraTarget::QProj, LoraTarget::VProj, LoraTarget::DownProj];

    fn recipe() -> LoraRecipe {
        LoraRecipe {
            rank: 3.try_into().unwrap(),
            alpha: 6.0.try_into().unwrap(),
            targets: TARGETS.to_vec(),
        }
    }

    fn shipped(dtype: DType) -> (DecoderConfig, FrozenParams) {
        let dir = Path::new("models/stories260k");
        let config = DecoderConfig::from_file(dir).unwrap();
        let base = FrozenParams::load(dir, &config, &Device::Cpu, dtype).unwrap();
        (config, base)
    }

    /// Adapters with a `B` that is not zero.
    fn moved(dtype: DType) -> (DecoderConfig, Lora) {
        let (config, base) = shipped(dtype);
        let lora = Lora::new(base, &recipe(), &SeedTree::root(7)).unwrap();
        for (i, (name, var)) in lora.vars().iter().enumerate() {
            if name.contains("lora_B") {
                let b = (noise(var.dims(), i as u64, DType::F32).unwrap() * 0.05).unwrap();
                var.set(&b).unwrap();
            }
        }
        (config, lora)
    }

    fn hidden(decoder: &Decoder) -> Tensor {
        let tokens: Vec<u32> = (0..40).map(|i| i * 7 % 512).collect();
        let positions: Vec<u32> = (0..40).collect();
        decoder.hidden(&tokens, &positions, &[0, 40]).unwrap()
    }

    fn flat(t: &Tensor) -> Vec<f32> {
        let wide = t.to_dtype(DType::F32).unwrap();
        wide.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn new_adapters_leave_the_model_as_it_is() {
        let (config, base) = shipped(DType::F32);
        let lora = Lora::new(base.clone(), &recipe(), &SeedTree::root(7)).unwrap();
        let want = hidden(&Decoder::frozen(&config, &base).unwrap());
        let got = hidden(&Decoder::adapted(&config, &lora).unwrap());
        assert_eq!(flat(&got), flat(&want));
        // 5 layers: q 64 to 64, v 64 to 32, down 172 to 64.
        let count: usize = lora.vars().values().map(|v| v.elem_count()).sum();
        assert_eq!(count, 5 * 3 * (128 + 96 + 236));
        assert_eq!(count as u64, lora.learned().parameters(&config));
        let a = &lora.vars()["base_model.model.model.layers.4.mlp.down_proj.lora_A.weight"];
        let bound = 1.0 / 172f32.sqrt();
        assert!(flat(a).iter().all(|x| x.abs() <= bound));
        assert!(flat(a).iter().any(|x| x.abs() > 0.8 * bound));
    }

    #[test]
    fn an_adapted_decoder_is_the_merged_model() {
        let (config, lora) = moved(DType::F32);
        let adapted = hidden(&Decoder::adapted(&config, &lora).unwrap());
        let merged = lora.merged(lora.dtype()).unwrap();
        let alone = hidden(&Decoder::frozen(&config, &merged).unwrap());
        assert_eq!(flat(&adapted), flat(&alone));
        // W0 + 2 B A, by hand for one element.
        let name = "model.layers.1.self_attn.v_proj";
        let part = |p: &str| {
            let var = &lora.vars()[&format!("{PREFIX}{name}.{p}.weight")];
            var.as_tensor().to_vec2::<f32>().unwrap()
        };
        let (a, b) = (part("lora_A"), part("lora_B"));
        let weight = |p: &FrozenParams| {
            let t = p.get(&format!("{name}.weight")).unwrap();
            t.to_vec2::<f32>().unwrap()[5][9]
        };
        let change: f32 = (0..3).map(|r| 2.0 * b[5][r] * a[r][9]).sum();
        assert!((weight(&merged) - weight(&lora.base) - change).abs() < 1e-6);
    }

    // dB = s dW A^T, dA = s B^T dW of the full model's dW.
    #[test]
    fn gradients_of_adapters_are_those_of_the_weights_by_the_chain_rule() -> Result<()> {
        let (config, lora) = moved(DType::F32);
        let upstream = noise(&[40, 64], 3, DType::F32)?;
        let loss = |decoder: &Decoder| (hidden(decoder) * &upstream)?.sum_all();
        let grads = loss(&Decoder::adapted(&config, &lora).unwrap())?.backward()?;
        let full = Params::from_frozen(&lora.merged(lora.dtype()).unwrap(), DType::F32).unwrap();
        let want = loss(&Decoder::trainable(&config, &full).unwrap())?.backward()?;
        let mut checked = 0;
        for (name, var) in full.iter() {
            let [a, b] = adapter_names(name).map(|n| lora.vars().get(&n));
            let (Some(a), Some(b)) = (a, b) else { continue };
            let dw = want.get(var).unwrap();
            let da = (b.as_tensor().t()?.matmul(dw)? * 2.0)?;
            let db = (dw.matmul(&a.as_tensor().t()?)? * 2.0)?;
            assert!(relative_error(grads.get(a).unwrap(), &da)? < 1e-5, "{name}");
            assert!(relative_error(grads.get(b).unwrap(), &db)? < 1e-5, "{name}");
            checked += 1;
        }
        assert_eq!(checked, 15);
        Ok(())
    }

    #[test]
    fn on_a_bf16_model_adapters_stay_in_f32_and_the_merged_model_in_bf16() {
        let (config, lora) = moved(DType::BF16);
        assert!(lora.vars().values().all(|v| v.dtype() == DType::F32));
        let merged = lora.merged(lora.dtype()).unwrap();
        assert!(merged.iter().all(|(_, t)| t.dtype() == DType::BF16));
        let adapted = hidden(&Decoder::adapted(&config, &lora).unwrap());
        let alone = hidden(&Decoder::frozen(&config, &merged).unwrap());
        // Products round the sum of both, which is what the merged model holds.
        assert_eq!(flat(&adapted), flat(&alone));
    }

    fn save(lora: &Lora, dir: &Path) {
        let tensors = lora.vars().iter();
        let tensors = tensors.map(|(name, var)| (name.clone(), var.as_detached_tensor()));
        let params = FrozenParams::from_tensors(tensors.collect());
        let arrays = params.arrays();
        save_adapter(dir, &lora.recipe, &arrays, |take| params.visit(take)).unwrap();
    }

    #[test]
    fn saved_adapters_load_as_they_were() {
        let (_, lora) = moved(DType::F32);
        let dir = tempfile::tempdir().unwrap();
        save(&lora, dir.path());
        let (_, base) = shipped(DType::F32);
        let again = Lora::load(base, dir.path()).unwrap();
        assert_eq!(
            again.recipe.alpha.get().to_bits(),
            lora.recipe.alpha.get().to_bits()
        );
        for (name, var) in lora.vars() {
            assert_eq!(flat(var), flat(&again.vars()[name]), "{name}");
        }
        assert_eq!(lora.vars().len(), again.vars().len());
    }

    #[test]
    fn adapters_that_do_not_fit_are_refused_with_the_reason() {
        let (_, lora) = moved(DType::F32);
        let dir = tempfile::tempdir().unwrap();
        save(&lora, dir.path());
        let path = dir.path().join(CONFIG);
        let text = fs::read_to_string(&path).unwrap();
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            write_atomic(&path, text.replace(from, to).as_bytes()).unwrap();
            let (_, base) = shipped(DType::F32);
            Lora::load(base, dir.path()).unwrap_err().to_string()
        };
        let dora = error(r#""use_dora": false"#, r#""use_dora": true"#);
        assert!(
            dora.contains("`use_dora`") && dora.contains("not implemented"),
            "{dora}"
        );
        let rank = error(r#""r": 3"#, r#""r": 4"#);
        assert!(
            rank.contains("lora_A.weight` has shape [3, 172], model and rank ask"),
            "{rank}"
        );
        let extra = error(r#""down_proj","#, "");
        assert!(extra.contains("no place for"), "{extra}");
        let weights = dir.path().join(WEIGHTS);
        let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
        let head = format!("base_model.model.lm_head{OWN_BASE}");
        tensors.insert(head.clone(), tensors.values().next().unwrap().clone());
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        let own = error(r#""bias": "none""#, r#""bias": "none""#);
        assert!(
            own.contains(&head) && own.contains("of PEFT merges such adapters"),
            "{own}"
        );
        tensors.remove(&head);
        candle_core::safetensors::save(&tensors, &weights).unwrap();
        let start = error(r#""bias": "none""#, r#""init_lora_weights": "pissa""#);
        assert!(start.contains("`init_lora_weights`"), "{start}");
    }

    #[test]
    fn modules_may_have_their_own_rank_and_alpha_and_layers_may_have_none() {
        let (_, mut lora) = moved(DType::F32);
        lora.vars.retain(|name, _| !name.contains("layers.0."));
        let dir = tempfile::tempdir().unwrap();
        save(&lora, dir.path());
        let path = dir.path().join(CONFIG);
        let text = fs::read_to_string(&path).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut load = |key: &str, value: serde_json::Value| {
            config[key] = value;
            write_atomic(&path, config.to_string().as_bytes()).unwrap();
            Lora::load(shipped(DType::F32).1, dir.path())
        };
        let said = load("r", 5.into()).unwrap_err().to_string();
        assert!(said.contains("layers.0.mlp.down_proj"), "{said}");
        assert!(said.contains("is missing"), "{said}");
        load("target_modules", "all-linear".into()).unwrap_err();
        let ranks = serde_json::json!({"down_proj": 3, "q_proj": 3, "v_proj": 3});
        load("rank_pattern", ranks).unwrap();
        let alphas = serde_json::json!({"layers.1.self_attn.v_proj": 9});
        let again = load("alpha_pattern", alphas).unwrap();
        let change = |lora: &Lora, name: &str| {
            let merged = lora.merged_weight(name, None, DType::F32).unwrap();
            let base = lora.base.get(name).unwrap();
            let change: Vec<f32> = flat(&(merged - base).unwrap());
            change.iter().map(|x| x.abs()).sum::<f32>()
        };
        // 9 / 3 instead of 6 / 3, and no adapters at all.
        let own = "model.layers.1.self_attn.v_proj.weight";
        let ratio = change(&again, own) / change(&lora, own);
        assert!((ratio - 1.5).abs() < 1e-3, "{ratio}");
        let none = "model.layers.0.self_attn.v_proj.weight";
        assert!(change(&again, none) <= 0.0);
        assert_eq!(again.vars().len(), lora.vars().len());
    }

    #[test]
    fn adapters_with_a_number_that_is_none_are_refused() {
        for number in [f32::NAN, f32::INFINITY] {
            let (_, lora) = moved(DType::F32);
            let (name, var) = lora.vars().iter().next_back().unwrap();
            let mut values = flat(var);
            values[1] = number;
            let spoilt = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
            var.set(&spoilt).unwrap();
            let dir = tempfile::tempdir().unwrap();
            save(&lora, dir.path());
            let error = Lora::load(shipped(DType::F32).1, dir.path()).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(name) && said.contains("NaN or inf"), "{said}");
        }
    }

    // On a bf16 base a change of less than half a unit is rounded away, in f32 it stays.
    #[test]
    fn a_merged_model_is_written_in_the_format_that_is_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let (model, adapter) = (temp.path().join("model"), temp.path().join("adapter"));
        let (_, base) = shipped(DType::BF16);
        let companions = Companions::read(Path::new("models/stories260k")).unwrap();
        save_checkpoint(&model, &companions, &base).unwrap();
        let (config, lora) = moved(DType::BF16);
        for (_, var) in lora
            .vars()
            .iter()
            .filter(|(name, _)| name.contains("lora_B"))
        {
            var.set(&(var.as_tensor() * 1e-3).unwrap()).unwrap();
        }
        save(&lora, &adapter);
        let merged = |format: Option<FloatFormat>, name: &str| {
            let out = temp.path().join(name);
            assert_eq!(merge_adapter(&model, &adapter, &out, format).unwrap(), 15);
            let stored = DecoderConfig::from_file(&out).unwrap().stored_dtype;
            let params = FrozenParams::load(&out, &config, &Device::Cpu, DType::F32).unwrap();
            let weight = params.get("model.layers.1.mlp.down_proj.weight").unwrap();
            (stored, flat(weight))
        };
        let (narrow, rounded) = merged(None, "narrow");
        let (wide, kept) = merged(Some(FloatFormat::F32), "wide");
        assert_eq!((narrow, wide), (FloatFormat::Bf16, FloatFormat::F32));
        let before = flat(base.get("model.layers.1.mlp.down_proj.weight").unwrap());
        assert_ne!(kept, before);
        let lost = |now: &[f32]| {
            before
                .iter()
                .zip(now)
                .filter(|(a, b)| a.to_bits() == b.to_bits())
                .count()
        };
        assert!(lost(&rounded) > 10 * (lost(&kept) + 1), "{}", lost(&kept));
    }
}
