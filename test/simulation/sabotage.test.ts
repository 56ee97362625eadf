import { describe, expect, test } from 'vitest';
import type { Sabotage } from './sabotage.ts';
import { Simulation } from './simulation.ts';

const seedsMax = 300;

/**
 * The first seed whose run ends with the finding. Earlier seeds may show the fault in another way.
 */
async function find(sabotage: Sabotage, finding: RegExp): Promise<{ readonly seed: number; readonly message: string }> {
  for (let seed = 1; seed <= seedsMax; seed++) {
    try {
      await new Simulation({ seed, sabotage }).run();
    } catch (error) {
      const { message } = error as Error;
      if (finding.test(message)) return { seed, message };
    }
  }
  throw new Error(`none of ${seedsMax} seeds says of ${sabotage} that ${finding.source}`);
}

const findings: Readonly<Record<NonNullable<Sabotage>, RegExp>> = {
  IGNORES_THE_FENCE: /a broker of epoch \d+ wrote in epoch \d+/,
  LOSES_A_COMMIT: /goes out as .* where undefined is|is not at .*, as was confirmed/,
  LOSES_ACKS: /is answered as acked and not durable/,
  LOADS_CURSORS_WITHOUT_THE_ACK_LOG: /was acked by .* and goes out again|takes the ack of .* back/,
  FOLDS_ONLY_WHAT_MOVES: /was acked by .* and goes out again|takes the ack of .* back/,
  REPEATS_A_GENERATION: /is given to .* and was to|saves generation \d+ of .*, which is at/,
  LOSES_A_RESET: /is answered as reset and is not/,
  PASSES_OVER_REFUSED_RECORDS: /is acked by an ack that should not count/,
  COUNTS_COMMITS_OF_OTHERS: /is acked by an ack that should not count/,
  COUNTS_ACKS_OF_OTHERS: /ACK of .* in generation \d+, and .* holds it since/,
  DELIVERS_WITHOUT_A_LEASE: /delivers to .* ms after its renewal/,
  FORGETS_IDEMPOTENCY_KEYS: /is at .* and at/,
  READS_NOTHING: /ms after the last fault .* is committed at \d+ of \d+/,
  BELIEVES_FENCED_INSTANCES: /ACK of .*, whose instance is/,
  SPARES_STALLED_MEMBERS: /ms after the last fault .* is committed at \d+ of \d+/,
  TAKES_OLD_PLANS: /the plan for generation \d+ of .* is taken, and came in generation/,
  TELLS_BEFORE_IT_IS_DURABLE: /is told of generation \d+ when \d+ is durable/,
  COMPLETES_BEFORE_THE_APPEND: /is completed by a settlement and not in the archive/,
  FOLDS_A_SETTLEMENT_AWAY: /the fold takes the ack of .* back|was archived by .* and goes out again/,
  COUNTS_AN_ATTEMPT_FOR_A_SLOW_READER: /goes out to .* as attempt \d+, and was attempt \d+ when its client did not/,
  DROPS_WHAT_IS_OWED: /goes \(COMPLETED\), and .* is owed to \d+/,
  DROPS_TOO_EARLY: /goes \(\w+\), and .* stays for [\d.]+ ms more/,
  KEEPS_WHAT_IS_DONE: /ms after the last record was done segment \d+ of .* has to go/,
  LIFTS_THE_WATERMARK: /the watermark of .* passes \d+, owed to \d+/,
  A_DEAD_ONE_HOLDS_BACK: /is dead, and segment \d+ of .* has to go/,
  JUMPS_WITHOUT_A_GAP: /is acked and was never sent|is acked by an ack that should not count/,
  FORGETS_GAPS: /goes out to .* without the gap before it/,
  HIDES_GAPS: /goes out to .* without the gap before it/,
  PAUSES_ON_PAPER: /records go out of .*, which is PAUSED/,
  FORGETS_SIGNS_OF_LIFE: /dies as left at \d+(\.\d+)?, and was heard at/,
  A_RETURN_LOSES_ITS_PLACE:
    /comes before @\d+, which is not acked|ms after the last fault .* is committed at \d+ of \d+/,
  APPLIES_TWICE: /was archived by .* and goes out again|is archived by a settlement and was complete before/,
};

const wordsOf = (sabotage: string): string => sabotage.toLowerCase().replaceAll('_', ' ');

describe('the simulation finds sabotage', () => {
  for (const [sabotage, finding] of Object.entries(findings) as [NonNullable<Sabotage>, RegExp][]) {
    test(`the simulation finds a broker that ${wordsOf(sabotage)}`, { timeout: 120_000 }, async () => {
      const { seed, message } = await find(sabotage, finding);
      expect(message).toContain(`SIMULATION_SEED=${seed} npm test -- test/simulation`);
      expect(message).toContain('what happened last:');
    });
  }
});

test('a seed gives the same run each time', async () => {
  const traces = [];
  for (let run = 0; run < 2; run++) {
    const simulation = new Simulation({ seed: 7 });
    await simulation.run();
    traces.push({ trace: simulation.world.trace, happenings: simulation.world.happenings });
  }
  expect(traces[0]).toEqual(traces[1]);
});
