import type { BatchCodec } from '../log/batch.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { AckRounds } from './ack-rounds.ts';
import type { GroupWriter } from './group-writer.ts';

/** What every group at work shares. */
export interface GroupContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly codec: BatchCodec;
  readonly writer: GroupWriter;
  readonly rounds: AckRounds;
  readonly unsentBytesMax: number;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
}
