import type { Assignors } from '../../coordinator/assignors/assignor.ts';
import type { Random } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import type { AckRounds } from '../rounds/ack-rounds.ts';
import type { Moves } from '../rounds/moves.ts';
import type { FeedParts } from '../dispatch/feed.ts';
import type { MayGrow } from '../dispatch/growth.ts';
import type { GroupWriter } from './group-writer.ts';
import type { HandOut } from '../dispatch/piece.ts';

/** What the coordinators of all groups have done since this broker owns the database. */
interface CoordinationCounts {
  rebalances: number;
  rebalanceMs: number;
  heartbeats: number;
  sessionTimeouts: number;
  /** Calls of members that are none any more. */
  fencedCalls: number;
  /** Offsets that CommitOffsets committed. */
  commits: number;
}

/** What every group at work shares. */
export interface GroupContext extends HandOut, FeedParts {
  readonly random: Random;
  readonly writer: GroupWriter;
  readonly rounds: AckRounds;
  readonly moves: Moves;
  readonly assignors: Assignors;
  readonly unsentBytesMax: number;
  readonly log: Logger;
  readonly counts: CoordinationCounts;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
  readonly mayGrow: MayGrow;
}
