"""Tasks of every request type over local data, for sweeps."""

import json

from support import tiny


def write_tasks(directory):
    """Write tasks of every request type over local data; return the directory."""
    directory.mkdir()
    words = tiny.sentences(14, seed=5, words=(6, 12))
    rows = [
        {
            "text": text,
            "choices": [text.split()[0], *text.split()[2:5]],
            "label": i % 4,
            "end": " " + text[-6:],
        }
        for i, text in enumerate(words)
    ]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (
        "dataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {directory / 'rows.jsonl'}\n"
        "test_split: test\n"
    )
    kinds = {
        "mine_mc": "output_type: multiple_choice\ndoc_to_text: '{{text}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: label\nmetric_list:\n- metric: acc\n- metric: acc_norm\n",
        "mine_ll": "output_type: loglikelihood\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{end}}'\n"
        "metric_list:\n- metric: perplexity\n- metric: acc\n",
        "mine_rolling": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list:\n- metric: word_perplexity\n- metric: bits_per_byte\n",
        "mine_gen": "output_type: generate_until\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{end}}'\n"
        "generation_kwargs:\n  max_gen_toks: 8\n  do_sample: false\n  until: ['zzz']\n"
        "metric_list:\n- metric: exact_match\n",
    }
    for name, text in kinds.items():
        (directory / f"{name}.yaml").write_text(f"task: {name}\n{common}{text}metadata:\n  version: 1.0\n")
    (directory / "mine_all.yaml").write_text(
        "group: mine_all\ntask:\n- mine_mc\n- mine_ll\naggregate_metric_list:\n- metric: acc\n"
        "  weight_by_size: true\nmetadata:\n  version: 1.0\n"
    )
    return directory
