import { Simulation } from './simulation.ts';

/** Seeds of the ordinary run, in parts that run side by side. */
const seedsDefault = 240;
export const parts = 4;
/**
 * Seeds that have found something, run each time. 2: a generation was told before it was durable. The others: a broker that had
 * been replaced refused an ack of what its successor had delivered, and the record stayed in flight for ever.
 */
const seedsThatFound = [2, 1898, 2615, 2831, 3934, 6743, 6860, 9627, 101725, 102721];

/**
 * The seeds of one part. SIMULATION_SEED names a single one (of the first part); SIMULATION_SEEDS says how many, SIMULATION_FROM
 * which is the first.
 */
export function seedsOf(part: number, env = process.env): number[] {
  const single = env['SIMULATION_SEED'];
  if (single !== undefined) return part === 0 ? [Number(single)] : [];
  const from = Number(env['SIMULATION_FROM'] ?? 1);
  const count = Number(env['SIMULATION_SEEDS'] ?? seedsDefault);
  const seeds = new Set([...seedsThatFound, ...Array.from({ length: count }, (_, index) => from + index)]);
  return [...seeds].filter((seed) => seed % parts === part);
}

/** Runs the seeds of one part, one after the other; the first that fails says how to run it again. */
export async function runSeeds(part: number): Promise<void> {
  for (const seed of seedsOf(part)) await new Simulation({ seed }).run();
}

/** A run takes 50 ms; a busy machine may be ten times as slow. */
export const timeoutMs = 60_000 + 1_000 * seedsOf(0).length;
