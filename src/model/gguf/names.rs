//! GGUF's tensor names and their counterparts on the hub.

/// The name on the hub of a tensor of the llama, qwen2 and qwen3 architectures; `None` for one that they do not have.
pub fn hub_name(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
    let module = match stem {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        _ => {
            let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
            let layer: u32 = layer.parse().ok()?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            format!("model.layers.{layer}.{part}")
        }
    };
    Some(format!("{module}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::hub_name;

    #[test]
    fn every_part_has_its_name_on_the_hub() {
        let names = [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("output.weight", "lm_head.weight"),
            ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
            ("blk.31.attn_q.bias", "model.layers.31.self_attn.q_proj.bias"),
            ("blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
            ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ];
        for (gguf, hub) in names {
            assert_eq!(hub_name(gguf).as_deref(), Some(hub));
        }
        for unknown in
            ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.0.ffn_gate_exps.weight", "output", "output.scale"]
        {
            assert_eq!(hub_name(unknown), None);
        }
    }
}
