import type { Client } from '@grpc/grpc-js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import type { BrokerProcess } from '../../../bench/support/broker-process.ts';
import { waitFor } from '../../../bench/support/timing.ts';
import { call, connect } from '../../../bench/client/service-client.ts';
import type { EdgeName } from '../calls.ts';
import type { Words } from './messages.ts';

const topics = ['fuzzed-1', 'fuzzed-2', 'fuzzed-3'];
const groups = ['fuzzed-group-1', 'fuzzed-group-2'];
/** What belongs to the pair beside the fuzzer. */
const honest = 'honest';

/** The broker as the fuzzer sees it: its ports, and names that exist there. */
export class FuzzSite {
  readonly ports: Readonly<Record<EdgeName, number>>;
  readonly #client: Client;
  readonly #memberIds: string[] = [];

  private constructor(broker: BrokerProcess) {
    this.ports = { grpc: broker.grpcPort, http: broker.httpPort };
    this.#client = connect(broker.grpcAddress);
  }

  static async open(broker: BrokerProcess): Promise<FuzzSite> {
    const site = new FuzzSite(broker);
    await site.#make();
    return site;
  }

  close(): void {
    this.#client.close();
  }

  /** The values of fields by their names; the members change as they are removed. */
  get words(): Words {
    return {
      topic: topics,
      topics,
      name: [...topics, ...topics, ...groups],
      group: groups,
      member_id: this.#memberIds,
      client_id: ['fuzzer', ''],
      group_instance_id: ['', 'instance-1'],
      assignor_name: ['', 'range', 'nothing'],
      client_assignors: ['mine'],
      partition: [0, 0, 1, 2],
      partitions: [1, 2, 3],
      lane: [0, 0, 0, 1],
      generation: ['1', '2', '3', '0'],
      page_token: ['', '', 'x'],
      service: ['', 'millrace.v1.BrokerService', 'nothing'],
      file_containing_symbol: ['millrace.v1.BrokerService', 'millrace.v1.Nothing'],
    };
  }

  /**
   * Removes what the cases have made, so that a long run meets the same broker as a short one. A
   * case at the same time may undo it, so errors do not count.
   */
  async tidy(): Promise<void> {
    await this.#removeWhere((name) => name !== honest);
    await this.#make();
  }

  /** Removes everything that any client has made; members leave soon after their connections. */
  async removeAll(): Promise<void> {
    await waitFor('nothing to be left', 120_000, 100, async () => {
      await this.#removeWhere(() => true);
      const { groups: left } = await call(this.#client, GroupService.method.listGroups, {});
      return left.length === 0;
    });
  }

  async #removeWhere(isRemoved: (name: string) => boolean): Promise<void> {
    const { groups: found } = await call(this.#client, GroupService.method.listGroups, { pageSize: 1_000 });
    for (const { name } of found) if (isRemoved(name)) await this.#remove(name);
    const { topics: kept } = await call(this.#client, TopicService.method.listTopics, { pageSize: 1_000 });
    for (const { name } of kept) {
      if (isRemoved(name)) await call(this.#client, TopicService.method.deleteTopic, { name }).catch(() => undefined);
    }
  }

  async #remove(group: string): Promise<void> {
    const request = { group, pageSize: 1_000 };
    const { members } = await call(this.#client, GroupService.method.listMembers, request).catch(() => ({
      members: [],
    }));
    const left = members.map(({ memberId }) =>
      call(this.#client, GroupService.method.leaveGroup, { group, memberId }).catch(() => undefined),
    );
    await Promise.all(left);
    await call(this.#client, GroupService.method.deleteGroup, { group }).catch(() => undefined);
  }

  async #make(): Promise<void> {
    this.#memberIds.length = 0;
    for (const name of topics) {
      await call(this.#client, TopicService.method.createTopic, { topic: { name, partitions: 3 } }).catch(
        () => undefined,
      );
    }
    for (const group of groups) {
      const request = { group, topics, sessionTimeout: { seconds: 1_800n } };
      const joined = await call(this.#client, GroupService.method.joinGroup, request).catch(() => null);
      if (joined !== null) this.#memberIds.push(joined.memberId);
    }
  }
}
