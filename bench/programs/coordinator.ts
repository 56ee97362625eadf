import { selected } from '../support/site.ts';
import type { Bench } from '../support/site.ts';
import { runHeartbeats } from './coordinator/heartbeats.ts';
import { runCurve, runMachine, runSteps } from './coordinator/machine.ts';
import { runLarge } from './coordinator/large.ts';
import { runMembers } from './coordinator/members.ts';
import { runOffsets } from './coordinator/offsets.ts';
import { runPauses } from './coordinator/pauses.ts';
import { runScrape } from './coordinator/scrape.ts';
import { runShell } from './coordinator/shell.ts';
import { runTakeover } from './coordinator/takeover.ts';

/**
 * From the pure machine outwards: the shell, then the database and the network, then a takeover.
 */
const parts: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  machine: runMachine,
  curve: runCurve,
  steps: runSteps,
  shell: runShell,
  scrape: runScrape,
  heartbeats: runHeartbeats,
  members: runMembers,
  large: runLarge,
  pauses: runPauses,
  offsets: runOffsets,
  takeover: runTakeover,
};

/**
 * Measures consumer groups: joins, heartbeats, rebalances, their cost by size, and pauses of
 * streams.
 */
export async function runCoordinator(bench: Bench): Promise<void> {
  for (const [name, part] of Object.entries(parts)) if (selected(bench, name)) await part(bench);
}
