"""`qeeps benchmark`: the published protocols on a labelled set."""

from qeeps_cli.cli import benchmark_options as own
from qeeps_cli.cli import options
from qeeps_cli.cli.groups import flat
from qeeps_cli.cli.messages import Messages
from qeeps_cli.errors import ExitCode, UsageError


@flat
def benchmark(
    *,
    labelled: own.SetOptions,
    method: own.Method = None,
    mode: own.Mode = None,
    shortlist: options.Shortlist = None,
    expand: options.Expand = False,
    det_thresh: own.DetThresh = 0.5,
    variant: own.Variant = None,
    detection: own.Detection = None,
    save_rankings: own.SaveRankings = None,
    keep: own.Keep = 100,
    figure: own.Figure = None,
    figure_queries: own.FigureQueries = 8,
    overwrite: own.Overwrite = False,
    network: options.EngineOptions,
    caching: options.CacheOptions,
    runtime: own.Runtime = False,
    size: own.Size = "900x1500",
    compare_eager: own.CompareEager = False,
    backbone: own.Backbone = None,
    as_json: options.AsJson = False,
    progress: options.Progress = True,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> ExitCode:
    """Score weights with a published protocol: mAP, top-1, 5 and 10, recall.

    Without options: the shipped example frames, in one to three minutes on two cores. docs/benchmark.md tells the rest.
    """
    messages = Messages(quiet, verbose, progress)
    if runtime:
        from qeeps_cli.cli.benchmark_runtime import measure

        return measure(size, compare_eager, backbone, network, as_json, messages)
    if compare_eager or backbone:
        raise UsageError("--compare-eager and --backbone belong to --runtime.")
    from qeeps_cli.cli.benchmark_output import Outputs, describe, encode
    from qeeps_cli.cli.stdout import write_stdout

    # Whatever can be wrong with the set and the outputs shows before the network is loaded.
    frame_set, setup = labelled.read()
    outputs = Outputs(save_rankings, keep, figure, figure_queries)
    outputs.check(overwrite)

    from qeeps_cli.cli.benchmark_run import check_variant, choose_ranking, run

    engine, checkpoint = network.load(messages)
    check_variant(checkpoint, variant)
    ranking = choose_ranking(
        engine,
        setup.dataset,
        method,
        mode,
        det_thresh=det_thresh,
        shortlist=shortlist,
        expand=expand,
        keep=outputs.keep,
        batch=network.batch,
        detection=detection,
    )
    with caching.open([setup.root], messages) as kept:
        result, how = run(engine, frame_set, ranking, kept, messages)
    document = describe(setup, frame_set, ranking, checkpoint, engine, result, how)
    write_stdout(encode(document, as_json))
    outputs.write(frame_set, result, messages)
    return ExitCode.OK
