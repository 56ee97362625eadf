import type { Broker } from '../../src/broker/broker.ts';
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
  | 'TELLS_BEFORE_IT_IS_DURABLE';

/** The calls of a broker that is wrong in this way, as far as the calls are what is wrong. */
export function sabotaged(broker: Broker, sabotage: Sabotage, ledger: Ledger): Broker {
  const changed = wrongCalls(broker, sabotage, ledger);
  return new Proxy(broker, {
    get: (_, name: keyof Broker) => changed[name] ?? (broker[name] as () => unknown).bind(broker),
  });
}

function wrongCalls(broker: Broker, sabotage: Sabotage, { groups }: Ledger): Partial<Broker> {
  const patient = { maxPollIntervalMs: 86_400_000 };
  switch (sabotage) {
    case 'COUNTS_ACKS_OF_OTHERS':
      return {
        ack: (caller, command) => {
          const holder = groups.holding(command.group, command.entries[0]!);
          const claimed = holder && { memberId: holder.memberId, generation: holder.sinceGeneration };
          return broker.ack(caller, { ...command, ...claimed });
        },
      };
    case 'PASSES_OVER_REFUSED_RECORDS':
      return {
        ack: (caller, command) => {
          const entries = command.entries.map((entry) => {
            const { upToOffset } = entry;
            return upToOffset === null ? entry : { ...entry, upToOffset: null, runs: [0, upToOffset] };
          });
          return broker.ack(caller, { ...command, entries });
        },
      };
    case 'COUNTS_COMMITS_OF_OTHERS':
      return {
        commitOffsets: (caller, command) => {
          const holder = groups.holding(command.group, command.offsets[0]!);
          const member = holder && { memberId: holder.memberId, generation: holder.sinceGeneration };
          return broker.commitOffsets(caller, { ...command, member: member ?? command.member });
        },
      };
    case 'BELIEVES_FENCED_INSTANCES':
      return {
        ack: (caller, command) => {
          const memberId = groups.successorOf(command.memberId) ?? command.memberId;
          return broker.ack(caller, { ...command, memberId });
        },
      };
    case 'SPARES_STALLED_MEMBERS':
      return {
        subscribe: (caller, command, sink) => broker.subscribe(caller, { ...command, ...patient }, sink),
        pull: (caller, command) => broker.pull(caller, { ...command, ...patient }),
        joinGroup: (caller, command) => broker.joinGroup(caller, { ...command, ...patient }),
      };
    case 'TAKES_OLD_PLANS':
      return {
        syncGroup: (caller, command) => {
          const { group, plan } = command;
          const generation = groups.row(group)?.generation ?? 0;
          return broker.syncGroup(caller, plan === null ? command : { ...command, plan: { ...plan, generation } });
        },
      };
    default:
      return {};
  }
}
