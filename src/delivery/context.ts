import type { Assignors } from '../coordinator/assignors/assignor.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { AckRounds } from './ack-rounds.ts';
import type { GroupWriter } from './group-writer.ts';
import type { HandOut } from './piece.ts';

/** What every group at work shares. */
export interface GroupContext extends HandOut {
  readonly clock: Clock;
  readonly random: Random;
  readonly writer: GroupWriter;
  readonly rounds: AckRounds;
  readonly assignors: Assignors;
  readonly unsentBytesMax: number;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
}
