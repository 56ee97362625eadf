import { Simulation } from './simulation.ts';

/** Seeds of the ordinary run, in parts that run side by side. */
const seedsDefault = 2_400;
export const parts = 4;

/**
 * The seeds of one part. SIMULATION_SEED names a single one (of the first part); SIMULATION_SEEDS says how many, SIMULATION_FROM
 * which is the first.
 */
export function seedsOf(part: number, env = process.env): number[] {
  const single = env['SIMULATION_SEED'];
  if (single !== undefined) return part === 0 ? [Number(single)] : [];
  const from = Number(env['SIMULATION_FROM'] ?? 1);
  const count = Number(env['SIMULATION_SEEDS'] ?? seedsDefault);
  const seeds = Array.from({ length: count }, (_, index) => from + index);
  return seeds.filter((seed) => seed % parts === part);
}

/** Runs the seeds of one part, one after the other; the first that fails says how to run it again. */
export async function runSeeds(part: number): Promise<void> {
  for (const seed of seedsOf(part)) await new Simulation({ seed }).run();
}

/** A run takes 50 ms; a busy machine may be ten times as slow. */
export const timeoutMs = 60_000 + 500 * seedsOf(0).length;
