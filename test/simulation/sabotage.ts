import { AckRing } from '../../src/commit/ack-ring.ts';
import type { Services } from '../../src/broker/services.ts';
import type { Ledger } from './ledger.ts';

/**
 * Ways in which a broker or its database can be made wrong on purpose, each of which one of the checks has to find: a check that
 * cannot fail says nothing.
 */
export type Sabotage =
  | null
  /** Writes as whatever epoch the fence names. */
  | 'IGNORES_THE_FENCE'
  /** Says of an append that it is durable, and has not written it. */
  | 'LOSES_A_COMMIT'
  /** Says of acks that they are durable, and has not written them. */
  | 'LOSES_ACKS'
  /** Loads a cursor without what the broker before has left of it in the ack log. */
  | 'LOADS_CURSORS_WITHOUT_THE_ACK_LOG'
  /** Empties the ack log when the cursors are written that have moved since the takeover. */
  | 'FOLDS_ONLY_WHAT_MOVES'
  /** Takes groups over as they were one generation ago. */
  | 'REPEATS_A_GENERATION'
  /** Says of a reset that it is durable, and has not written it. */
  | 'LOSES_A_RESET'
  /** Lets an ack up to an offset ack what its member has refused. */
  | 'PASSES_OVER_REFUSED_RECORDS'
  /** Lets a commit of any member and generation count. */
  | 'COUNTS_COMMITS_OF_OTHERS'
  /** Lets an ack of any member and generation count. */
  | 'COUNTS_ACKS_OF_OTHERS'
  /** Delivers for as long as its process runs, whatever became of its lease. */
  | 'DELIVERS_WITHOUT_A_LEASE'
  /** Appends a publish again that has been appended already. */
  | 'FORGETS_IDEMPOTENCY_KEYS'
  /** Finds nothing in the database that is not in memory any more. */
  | 'READS_NOTHING'
  /** Takes an ack of a process whose instance is another's for one of that other. */
  | 'BELIEVES_FENCED_INSTANCES'
  /** Leaves partitions with members that do not work on them. */
  | 'SPARES_STALLED_MEMBERS'
  /** Takes a leader's plan whatever generation it was made for. */
  | 'TAKES_OLD_PLANS'
  /** Carries out what a coordinator decided before it is written. */
  | 'TELLS_BEFORE_IT_IS_DURABLE'
  /** Completes what a settlement moves in a transaction of its own, before that of the append. */
  | 'COMPLETES_BEFORE_THE_APPEND'
  /** Folds, and truncates the ack log, without waiting for settlements that are on their way to it. */
  | 'FOLDS_A_SETTLEMENT_AWAY'
  /** Takes a settlement whose answer was lost for one that has come to nothing. */
  | 'APPLIES_TWICE';

/** A ring of which a fold believes that no settlement refers to it. */
export class CarelessRing extends AckRing {
  override get olderAreFree(): boolean {
    return true;
  }
}

/** The calls of a broker that is wrong in this way, as far as the calls are what is wrong. */
export function sabotaged(services: Services, sabotage: Sabotage, ledger: Ledger): Services {
  const { broker, group } = wrongCalls(services, sabotage, ledger);
  return { ...services, broker: { ...services.broker, ...broker }, group: { ...services.group, ...group } };
}

/** The calls that are wrong, by their service. */
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
