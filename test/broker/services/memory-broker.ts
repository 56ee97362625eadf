import type { Account } from '../../../src/account/account.ts';
import { openBroker, type OpenBroker } from '../../../src/broker/opening.ts';
import { WriteTrouble } from '../../../src/errors/write-trouble.ts';
import { limits } from '../../../src/limits/limits.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import type { FakeClock } from '../../support/fake-clock.ts';
import { MemoryGroupStore, type MemoryGroups } from '../../support/memory-group-store.ts';
import { MemoryLogStore, type MemoryLogs } from '../../support/memory-log-store.ts';
import { MemoryTopicStore } from '../../support/memory-topic-store.ts';
import { MemoryRetentionStore } from '../../support/retention/memory-retention-store.ts';

/** What the brokers of one database share. */
export interface SharedMemory {
  readonly logs: MemoryLogs;
  readonly groups: MemoryGroups;
}

interface MemoryBroker {
  readonly opened: OpenBroker;
  readonly topics: MemoryTopicStore;
  readonly groups: MemoryGroupStore;
}

export function memoryLogStore(clock: FakeClock, { logs, groups }: SharedMemory): MemoryLogStore {
  return new MemoryLogStore(clock, { shared: logs, groups });
}

/** Opens a broker on stores in memory. */
export async function openInMemory(
  { clock, account }: { readonly clock: FakeClock; readonly account: Account },
  shared: SharedMemory,
  log: MemoryLogStore = memoryLogStore(clock, shared),
): Promise<MemoryBroker> {
  const topics = new MemoryTopicStore(shared.logs, shared.groups);
  const groups = new MemoryGroupStore(shared.groups);
  const retention = new MemoryRetentionStore({ ...shared, demandOwner: () => undefined });
  const opened = await openBroker({
    stores: { log, commits: log, topics, groups, retention },
    writes: new WriteTrouble(() => clock.wallMs()),
    codec: createBatchCodec(),
    clock,
    awakeClock: clock,
    random: { uuid: () => 'id', fraction: () => 0.5 },
    account,
    limits,
    mayDeliver: () => true,
    onFenced: () => undefined,
    log: { info: () => undefined, warn: () => undefined },
  });
  return { opened, topics, groups };
}
