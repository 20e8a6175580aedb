//! Low-rank adapters (Hu et al. 2021, section 4.1): `W = W0 + (alpha / rank) B A`, of which only
//! `A (rank, in)` and `B (out, rank)` are trained.
//!
//! The sum is formed once a step and the decoder runs on it, so that every kernel and every number
//! is that of the merged model. Names and files are those of PEFT: `adapter_model.safetensors` and
//! `adapter_config.json`.

use crate::arch::{DecoderConfig, Learned};
use crate::base::{PathError, SeedTree, write_atomic};
use crate::config::spec::{LoraRecipe, LoraTarget, Positive};
use crate::model::error::ModelError;
use crate::model::ops::linear;
use crate::model::weights::arrays::{ArrayWriter, Arrays, Take};
use crate::model::weights::checkpoint::{Companions, save_checkpoint};
use crate::model::weights::params::FrozenParams;
use candle_core::{DType, Device, Tensor, Var};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use strum::VariantArray as _;

/// File names of PEFT.
const WEIGHTS: &str = "adapter_model.safetensors";
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
}

/// The part of `adapter_config.json` that says what the weights mean.
#[expect(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Debug, Serialize, Deserialize)]
struct AdapterConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: BTreeSet<String>,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
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
        let factor = self.recipe.alpha.get() / self.recipe.rank.get() as f64;
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
    /// A file is missing or damaged; the adapters are of another kind or do not fit the model.
    pub fn load(base: FrozenParams, dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let text = crate::base::fs::read_to_string(&path)?;
        let config: AdapterConfig =
            serde_json::from_str(&text).map_err(|source| ModelError::Json {
                path: path.clone(),
                source,
            })?;
        let wrong = |field, problem: String| ModelError::Config {
            path: path.clone(),
            field,
            problem,
        };
        if config.peft_type != "LORA" {
            return Err(wrong(
                "peft_type",
                format!("is `{}`, not `LORA`", config.peft_type),
            ));
        }
        let unknown = [
            ("fan_in_fan_out", config.fan_in_fan_out),
            ("use_dora", config.use_dora),
            ("use_rslora", config.use_rslora),
            ("alpha_pattern", !config.alpha_pattern.is_empty()),
            ("bias", config.bias.as_deref().is_some_and(|b| b != "none")),
        ];
        if let Some((field, _)) = unknown.into_iter().find(|(_, on)| *on) {
            return Err(wrong(field, "asks for what is not implemented".to_owned()));
        }
        let rank = NonZeroUsize::new(config.r).ok_or_else(|| wrong("r", "is 0".to_owned()))?;
        let alpha = Positive::try_from(config.lora_alpha)
            .map_err(|error| wrong("lora_alpha", error.to_string()))?;
        let target = |name: &String| {
            let known = LoraTarget::VARIANTS.iter().find(|t| t.name() == name);
            known
                .copied()
                .ok_or_else(|| wrong("target_modules", format!("names `{name}`")))
        };
        let recipe = LoraRecipe {
            rank,
            alpha,
            targets: config
                .target_modules
                .iter()
                .map(target)
                .collect::<Result<_, _>>()?,
        };
        let mut lora = Self::new(base, &recipe, &SeedTree::root(0))?;
        lora.read_weights(&dir.join(WEIGHTS))?;
        Ok(lora)
    }

    fn read_weights(&mut self, path: &Path) -> Result<(), ModelError> {
        let damaged = |problem: String| ModelError::Damaged {
            path: path.to_path_buf(),
            problem,
        };
        let bytes = fs::read(path).map_err(|e| PathError::new("read", path, e))?;
        let mut found = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| damaged(e.to_string()))?;
        for (name, var) in &self.vars {
            let tensor = found
                .remove(name)
                .ok_or_else(|| ModelError::MissingTensor {
                    name: name.clone(),
                    expected: var.dims().to_vec(),
                    path: path.to_path_buf(),
                })?;
            if tensor.shape() != var.shape() {
                return Err(damaged(format!(
                    "`{name}` has shape {:?}, model and rank ask for {:?}",
                    tensor.dims(),
                    var.dims()
                )));
            }
            var.set(&tensor.to_dtype(DType::F32)?.to_device(var.device())?)?;
        }
        match found.keys().min() {
            Some(name) => Err(damaged(format!("no place for `{name}`"))),
            None => Ok(()),
        }
    }
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
    let config = AdapterConfig {
        peft_type: "LORA".to_owned(),
        r: recipe.rank.get(),
        lora_alpha: recipe.alpha.get(),
        target_modules: recipe.targets.iter().map(|t| t.name().to_owned()).collect(),
        bias: Some("none".to_owned()),
        fan_in_fan_out: false,
        use_dora: false,
        use_rslora: false,
        alpha_pattern: BTreeMap::new(),
        task_type: Some("CAUSAL_LM".to_owned()),
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

/// Writes the model in `model` with the adapters in `adapter` as the new folder `out`, in the number
/// format of the model; returns how many weights the adapters change.
///
/// # Errors
/// A file is missing or damaged, the adapters do not fit, or `out` exists.
pub fn merge_adapter(model: &Path, adapter: &Path, out: &Path) -> Result<usize, ModelError> {
    let config = DecoderConfig::from_file(model)?;
    let base = FrozenParams::load(model, &config, &Device::Cpu, config.stored_dtype.into())?;
    let lora = Lora::load(base, adapter)?;
    let merged = lora.merged(lora.dtype())?;
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
        let error = relative_error(&adapted, &alone).unwrap();
        assert!(error > 0.0 && error < 0.05, "{error:e}");
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
    }
}
