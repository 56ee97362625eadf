import { Simulation } from './simulation.ts';

/** The number of seeds by default, in parts that run concurrently. */
const seedsDefault = 2_400;
export const parts = 4;

/**
 * The seeds of one part. SIMULATION_SEED names a single seed, which runs in the first part.
 * SIMULATION_SEEDS is the number of seeds, and SIMULATION_FROM the first one.
 */
export function seedsOf(part: number, env = process.env): number[] {
  const single = env['SIMULATION_SEED'];
  if (single !== undefined) return part === 0 ? [Number(single)] : [];
  const from = Number(env['SIMULATION_FROM'] ?? 1);
  const count = Number(env['SIMULATION_SEEDS'] ?? seedsDefault);
  const seeds = Array.from({ length: count }, (_, index) => from + index);
  return seeds.filter((seed) => seed % parts === part);
}

/**
 * Runs the seeds of one part in turn. The error of a failed run has the command that repeats it.
 */
export async function runSeeds(part: number): Promise<void> {
  for (const seed of seedsOf(part)) await new Simulation({ seed }).run();
}

/** A run takes 50 ms, and ten times as long on a busy machine. */
export const timeoutMs = 60_000 + 500 * seedsOf(0).length;
