import { AssignorError } from './assignor-error.ts';
import type { Assignment, Assignor, AssignorInput, AssignorMember } from './assignor.ts';
import { Slots, type SlotFault } from './slots.ts';

/** An assignor as an operator writes it: docs/assignors.md. */
export interface PluggableAssignor {
  readonly name: string;
  /** Pure: the same input gives the same result. The result is checked before use. */
  readonly assign: (input: PluggableInput) => unknown;
}

/** The input of an operator's assignor, built for each call. */
interface PluggableInput {
  /** In the order of joining. */
  readonly members: readonly PluggableMember[];
  readonly topics: readonly { readonly topic: string; readonly partitions: number }[];
  /** The current assignment. A holder may have stopped reading the topic. */
  readonly current: readonly PluggableSlot[];
}

interface PluggableMember {
  readonly memberId: string;
  readonly clientId: string;
  readonly host: string;
  readonly instanceId: string | null;
  /** The group's topics that the member reads. */
  readonly topics: readonly string[];
  readonly metadata: Uint8Array;
}

/**
 * One partition of one member. The result is an array with each partition that a member reads,
 * once.
 */
interface PluggableSlot {
  readonly topic: string;
  readonly partition: number;
  readonly memberId: string;
}

/**
 * Turns an operator's assignor into an assignor that throws an AssignorError for any wrong result.
 * `topicName` answers for every topic of the group.
 */
export function plugged({ name, assign }: PluggableAssignor, topicName: (topicId: number) => string): Assignor {
  return (input) => {
    const names = new Map(input.topics.map(({ topicId }) => [topicId, topicName(topicId)]));
    const given = pluggableInput(input, names);
    try {
      return new ReturnedSlots(name, input, names).assignment(assign(given));
    } catch (cause) {
      if (cause instanceof AssignorError) throw cause;
      throw new AssignorError(`the assignor "${name}" threw: ${messageOf(cause)}`, { cause });
    }
  };
}

/** The cause in one line, because it may end up in the status message of a call. */
function messageOf(cause: unknown): string {
  const [line = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
  return line;
}

function pluggableInput({ members, topics, previous }: AssignorInput, names: TopicNames): PluggableInput {
  return {
    members: members.map((member) => pluggableMember(member, names)),
    topics: topics.map(({ topicId, partitions }) => ({ topic: names.get(topicId) ?? '', partitions })),
    current: topics.flatMap(({ topicId }) =>
      [...(previous.get(topicId) ?? [])].flatMap((holder, partition) => {
        const member = members[holder];
        return member === undefined ? [] : { topic: names.get(topicId) ?? '', partition, memberId: member.memberId };
      }),
    ),
  };
}

function pluggableMember(member: AssignorMember, names: TopicNames): PluggableMember {
  const { memberId, clientId, host, instanceId = null, metadata = [], topicIds } = member;
  return {
    memberId,
    clientId,
    host,
    instanceId,
    topics: topicIds.flatMap((topicId) => names.get(topicId) ?? []),
    // A copy, because the assignor may write into its input.
    metadata: new Uint8Array(metadata),
  };
}

type TopicNames = ReadonlyMap<number, string>;

/** Reads the result of an assignor, and describes each possible error in it. */
class ReturnedSlots {
  readonly #name: string;
  readonly #slots: Slots;
  readonly #names: TopicNames;
  /** By name. */
  readonly #topicIds: ReadonlyMap<string, number>;

  constructor(name: string, input: AssignorInput, names: TopicNames) {
    this.#name = name;
    this.#slots = new Slots(input);
    this.#names = names;
    this.#topicIds = new Map(Array.from(names, ([topicId, topic]) => [topic, topicId]));
  }

  assignment(returned: unknown): Assignment {
    if (isPromise(returned)) throw this.#error('returned a promise; it must return its result at once');
    if (!Array.isArray(returned)) {
      throw this.#error(`returned ${shown(returned)}, which is not an array of { topic, partition, memberId }`);
    }
    for (let index = 0; index < returned.length; index++) this.#take(returned[index], index);
    this.#refuseForgotten();
    return this.#slots.assignment;
  }

  #take(slot: unknown, index: number): void {
    const { topic, partition, memberId } = (slot ?? {}) as Record<keyof PluggableSlot, unknown>;
    if (typeof topic !== 'string' || typeof memberId !== 'string' || typeof partition !== 'number') {
      const types = 'topic and memberId, which are strings, and partition, which is a number';
      throw this.#error(`returned ${shown(slot)} at [${index}], without ${types}`);
    }
    const topicId = this.#topicIds.get(topic);
    const fault = topicId === undefined ? 'NO_TOPIC' : this.#slots.give(topicId, partition, memberId);
    if (fault !== null) {
      throw this.#error(words[fault](`partition ${partition} of topic "${topic}"`, memberId));
    }
  }

  #refuseForgotten(): void {
    const forgotten = this.#slots.forgotten();
    if (forgotten === null) return;
    const { topicId, partition, readerId } = forgotten;
    throw this.#error(
      `forgot partition ${partition} of topic "${this.#names.get(topicId) ?? ''}", which "${readerId}" reads`,
    );
  }

  #error(what: string): AssignorError {
    return new AssignorError(`the assignor "${this.#name}" ${what}`);
  }
}

const words: Readonly<Record<SlotFault, (what: string, memberId: string) => string>> = {
  NO_TOPIC: (what, memberId) => `gave ${what} to "${memberId}": the group has no such topic`,
  NO_PARTITION: (what, memberId) => `gave ${what} to "${memberId}": there is no such partition`,
  NO_MEMBER: (what, memberId) => `gave ${what} to "${memberId}", which is not a member`,
  NO_READER: (what, memberId) => `gave ${what} to "${memberId}", which does not read that topic`,
  TWICE: (what, memberId) => `gave ${what} twice, the second time to "${memberId}"`,
};

/** Handles the rejection of a promise that no caller awaits, because it would end the process. */
function isPromise(value: unknown): boolean {
  if (!(value instanceof Promise)) return false;
  value.catch(() => undefined);
  return true;
}

/** A value in few characters, for an error. */
function shown(value: unknown): string {
  if (typeof value === 'string') return `"${value.slice(0, 40)}"`;
  if (typeof value !== 'object' || value === null) return String(value).slice(0, 40);
  return (JSON.stringify(value) ?? 'an object').slice(0, 80);
}
