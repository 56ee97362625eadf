/**
 * Properties run on a fixed seed, so that a red run is red again; fast-check prints the seed and
 * path of a failure.
 */
export function property(numRuns: number): { seed: number; numRuns: number } {
  return {
    seed: Number(process.env['FAST_CHECK_SEED'] ?? 1),
    numRuns: numRuns * Number(process.env['FAST_CHECK_SCALE'] ?? 1),
  };
}
