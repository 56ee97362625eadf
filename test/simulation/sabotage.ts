import { AckRing } from '../../src/commit/ack-ring.ts';
import type { Services } from '../../src/broker/services.ts';
import type { StoredFacts } from '../../src/lifecycle/store.ts';
import type { MemberStream } from '../../src/delivery/ports/session.ts';
import type { Ledger } from './ledgers/ledger.ts';

/**
 * Deliberate faults of a broker or its database. One of the checks must find each of them, because
 * a check that cannot fail proves nothing.
 */
export type Sabotage =
  | null
  /** Writes in the epoch of the fence rows, whatever its own epoch is. */
  | 'IGNORES_THE_FENCE'
  /** Confirms an append without writing it. */
  | 'LOSES_A_COMMIT'
  /** Confirms acks without writing them. */
  | 'LOSES_ACKS'
  /** Loads a cursor without what the broker before has left of it in the ack log. */
  | 'LOADS_CURSORS_WITHOUT_THE_ACK_LOG'
  /** Empties the ack log when the cursors are written that have moved since the takeover. */
  | 'FOLDS_ONLY_WHAT_MOVES'
  /** Takes groups over as they were one generation ago. */
  | 'REPEATS_A_GENERATION'
  /** Confirms a reset without writing it. */
  | 'LOSES_A_RESET'
  /** Lets a cumulative ack cover records that its member has refused. */
  | 'PASSES_OVER_REFUSED_RECORDS'
  /** Lets a commit of any member and generation count. */
  | 'COUNTS_COMMITS_OF_OTHERS'
  /** Lets an ack of any member and generation count. */
  | 'COUNTS_ACKS_OF_OTHERS'
  /** Delivers as long as its process runs, even after its lease has expired. */
  | 'DELIVERS_WITHOUT_A_LEASE'
  /** Appends a repeated publish again. */
  | 'FORGETS_IDEMPOTENCY_KEYS'
  /** Reads nothing from the database, only from memory. */
  | 'READS_NOTHING'
  /** Counts an ack of a fenced process as one of its successor. */
  | 'BELIEVES_FENCED_INSTANCES'
  /** Leaves partitions with members that are stalled. */
  | 'SPARES_STALLED_MEMBERS'
  /** Takes a leader's plan for any generation. */
  | 'TAKES_OLD_PLANS'
  /** Carries out a coordinator's step before it is written. */
  | 'TELLS_BEFORE_IT_IS_DURABLE'
  /** Completes the records of a settlement in a separate transaction, before the append. */
  | 'COMPLETES_BEFORE_THE_APPEND'
  /** Folds and truncates the ack log without waiting for the settlements under way. */
  | 'FOLDS_A_SETTLEMENT_AWAY'
  /** Treats the end of a stream whose client does not read as the loss of its connection. */
  | 'COUNTS_AN_ATTEMPT_FOR_A_SLOW_READER'
  /** Treats a settlement with a lost answer as one that was not written. */
  | 'APPLIES_TWICE'
  /** Drops a segment that is owed, because it looks for what is owed one segment too late. */
  | 'DROPS_WHAT_IS_OWED'
  /** Drops segments without waiting for their time. */
  | 'DROPS_TOO_EARLY'
  /** Lets subscriptions hold back what they have done. */
  | 'KEEPS_WHAT_IS_DONE'
  /** Shows what is owed as complete. */
  | 'LIFTS_THE_WATERMARK'
  /** Lets DEAD subscriptions hold back what they are owed, for ever. */
  | 'A_DEAD_ONE_HOLDS_BACK'
  /** Lets cursors jump without a trace of what they have lost. */
  | 'JUMPS_WITHOUT_A_GAP'
  /** Reads no gap of the broker before. */
  | 'FORGETS_GAPS'
  /** Sends no gap to members. */
  | 'HIDES_GAPS'
  /** Writes that a subscription is PAUSED, and delivers on. */
  | 'PAUSES_ON_PAPER'
  /** Counts the time without a member from the takeover, whatever it has heard since. */
  | 'FORGETS_SIGNS_OF_LIFE'
  /** Begins DEAD subscriptions at the ends of their logs. */
  | 'A_RETURN_LOSES_ITS_PLACE';

/** A ring that ignores its references, so that no fold waits for a settlement. */
export class CarelessRing extends AckRing {
  override get olderAreFree(): boolean {
    return true;
  }
}

/** The facts of a topic, as the sabotage makes them wrong. */
export function wrongFacts(sabotage: Sabotage, facts: StoredFacts | null): StoredFacts | null {
  switch (facts === null ? null : sabotage) {
    case 'DROPS_WHAT_IS_OWED':
      return { ...facts!, claims: facts!.claims.map((claim) => ({ ...claim, needs: claim.needs + 1 })) };
    case 'DROPS_TOO_EARLY':
      return { ...facts!, sealed: facts!.sealed.map((one) => ({ ...one, lastAppendMs: 0, completedAtMs: 0 })) };
    case 'KEEPS_WHAT_IS_DONE':
      return { ...facts!, claims: facts!.claims.map((claim) => ({ ...claim, needs: 1 })) };
    case 'A_DEAD_ONE_HOLDS_BACK':
      return { ...facts!, claims: facts!.claims.map((claim) => ({ ...claim, state: 'ACTIVE' })) };
    case 'LIFTS_THE_WATERMARK':
      return { ...facts!, watermarks: facts!.watermarks.map((one) => ({ ...one, folded: null })) };
    default:
      return facts;
  }
}

/** Replaces the calls that the sabotage makes wrong. */
export function sabotaged(services: Services, sabotage: Sabotage, ledger: Ledger): Services {
  const { broker, group } = wrongCalls(services, sabotage, ledger);
  return { ...services, broker: { ...services.broker, ...broker }, group: { ...services.group, ...group } };
}

/** The wrong calls, by service. */
interface WrongCalls {
  readonly broker?: Partial<Services['broker']>;
  readonly group?: Partial<Services['group']>;
}

function wrongCalls({ broker, group }: Services, sabotage: Sabotage, { groups }: Ledger): WrongCalls {
  const patient = { maxPollIntervalMs: 86_400_000 };
  switch (sabotage) {
    case 'COUNTS_ACKS_OF_OTHERS':
      return {
        broker: {
          ack: (command) => {
            const holder = groups.holding(command.group, command.entries[0]!);
            const claimed = holder && { memberId: holder.memberId, generation: holder.sinceGeneration };
            return broker.ack({ ...command, ...claimed });
          },
        },
      };
    case 'PASSES_OVER_REFUSED_RECORDS':
      return {
        broker: {
          ack: (command) => {
            const entries = command.entries.map((entry) => {
              const { upToOffset } = entry;
              return upToOffset === null ? entry : { ...entry, upToOffset: null, runs: [0, upToOffset] };
            });
            return broker.ack({ ...command, entries });
          },
        },
      };
    case 'COUNTS_COMMITS_OF_OTHERS':
      return {
        group: {
          commitOffsets: (command) => {
            const holder = groups.holding(command.group, command.offsets[0]!);
            const member = holder && { memberId: holder.memberId, generation: holder.sinceGeneration };
            return group.commitOffsets({ ...command, member: member ?? command.member });
          },
        },
      };
    case 'BELIEVES_FENCED_INSTANCES':
      return {
        broker: {
          ack: (command) => {
            const memberId = groups.successorOf(command.memberId) ?? command.memberId;
            return broker.ack({ ...command, memberId });
          },
        },
      };
    case 'SPARES_STALLED_MEMBERS':
      return {
        broker: {
          subscribe: (caller, command, sink) => broker.subscribe(caller, { ...command, ...patient }, sink),
          pull: (caller, command) => broker.pull(caller, { ...command, ...patient }),
        },
        group: {
          joinGroup: (caller, command) => group.joinGroup(caller, { ...command, ...patient }),
        },
      };
    case 'COUNTS_AN_ATTEMPT_FOR_A_SLOW_READER':
      return {
        broker: {
          subscribe: async (caller, command, sink) => {
            let stream: MemberStream | null = null;
            const end = sink.end.bind(sink);
            sink.end = (error) => {
              if (error?.reason === 'SLOW_READER') stream?.closed('CONNECTION_LOST');
              end(error);
            };
            stream = await broker.subscribe(caller, command, sink);
            return stream;
          },
        },
      };
    case 'HIDES_GAPS':
      return {
        broker: {
          subscribe: (caller, command, sink) => {
            const send = sink.send.bind(sink);
            sink.send = (event) => {
              if (event.type !== 'gap') send(event);
            };
            return broker.subscribe(caller, command, sink);
          },
          pull: async (caller, command) => ({ ...(await broker.pull(caller, command)), gaps: [] }),
        },
      };
    case 'TAKES_OLD_PLANS':
      return {
        group: {
          syncGroup: (command) => {
            const { plan } = command;
            const generation = groups.row(command.group)?.generation ?? 0;
            return group.syncGroup(plan === null ? command : { ...command, plan: { ...plan, generation } });
          },
        },
      };
    default:
      return {};
  }
}
