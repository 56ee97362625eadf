import type {
  AssignmentPage,
  FetchedOffset,
  GroupPage,
  GroupView,
  ListedLog,
  MemberDetails,
  MemberId,
  NamedLog,
  SyncGroupOutcome,
} from './commands.ts';
import { fetchedOffsetBytes, memberBytes, partitionStatusBytes, topicPartitionBytes } from './entry-bytes.ts';
import { pageOf, type Page, type PageRequest } from './pages/paging.ts';
import type { PartitionStatus } from '../delivery/ports/session.ts';

/** Pages of the answers that show a group and its offsets. */

type GroupEntry = { readonly member: MemberDetails } | { readonly partition: PartitionStatus };

/** The members first, then the partitions. Their tokens begin with m and p. */
export function groupPage(view: GroupView, page: PageRequest): GroupPage {
  const shown = pageOf<MemberId | ListedLog, GroupEntry>(
    {
      items: [...view.memberIds(), ...view.logs()],
      keyOf: (item) => (typeof item === 'string' ? ['m', item] : ['p', ...placeOf(item)]),
      entryOf: (item) => (typeof item === 'string' ? { member: view.member(item) } : { partition: item.status() }),
      bytesOf: (entry) => ('member' in entry ? memberBytes(entry.member) : partitionStatusBytes(entry.partition)),
    },
    page,
  );
  return {
    group: view.summary(),
    members: shown.items.flatMap((entry) => ('member' in entry ? [entry.member] : [])),
    partitions: shown.items.flatMap((entry) => ('partition' in entry ? [entry.partition] : [])),
    nextToken: shown.nextToken,
  };
}

export function membersPage(view: GroupView, page: PageRequest): Page<MemberDetails> {
  const entryOf = (memberId: MemberId): MemberDetails => view.member(memberId);
  return pageOf({ items: view.memberIds(), keyOf: (memberId) => [memberId], entryOf, bytesOf: memberBytes }, page);
}

/** The version of the assignment that the token continues; null for the first page. */
export function versionOf(token: string): string | null {
  return token === '' ? null : token.slice(0, tildeOf(token));
}

/** A page of one version of an assignment. Only its bytes limit it. */
export function assignmentPage({ generation, version, partitions }: SyncGroupOutcome, token: string): AssignmentPage {
  const shown = pageOf(
    {
      items: partitions,
      keyOf: ({ place: { topic, partition } }) => [topic, partition],
      entryOf: (item) => item,
      bytesOf: ({ place, revoking }) => topicPartitionBytes(place) * (revoking ? 2 : 1),
    },
    { size: Infinity, token: token.slice(tildeOf(token) + 1) },
  );
  const { items, nextToken } = shown;
  return {
    generation,
    partitions: items.map(({ place }) => place),
    revoking: items.flatMap(({ place, revoking }) => (revoking ? [place] : [])),
    nextToken: nextToken === '' ? '' : `${version}~${nextToken}`,
  };
}

/** A token without a tilde is no token of this call, and stands for no version. */
function tildeOf(token: string): number {
  const tilde = token.indexOf('~');
  return tilde < 0 ? token.length : tilde;
}

type Fetch = (log: NamedLog) => FetchedOffset;

/** The offsets of the logs that the caller names; if it names none, of all logs of the group. */
export function offsetsPage(
  named: readonly NamedLog[],
  view: GroupView,
  fetch: Fetch,
  page: PageRequest,
): Page<FetchedOffset> {
  return named.length > 0 ? namedOffsets(named, fetch, page) : allOffsets(view.logs(), fetch, page);
}

/** In the order of the caller. The token counts them. */
function namedOffsets(named: readonly NamedLog[], fetch: Fetch, page: PageRequest): Page<FetchedOffset> {
  const items = named.map((name, at) => ({ name, at }));
  return pageOf(
    { items, keyOf: ({ at }) => [at], entryOf: ({ name }) => fetch(name), bytesOf: fetchedOffsetBytes },
    page,
  );
}

function allOffsets(logs: readonly ListedLog[], fetch: Fetch, page: PageRequest): Page<FetchedOffset> {
  const entryOf = ({ topic, key }: ListedLog): FetchedOffset => fetch({ topic, ...key });
  return pageOf({ items: logs, keyOf: placeOf, entryOf, bytesOf: fetchedOffsetBytes }, page);
}

function placeOf({ topic, key: { partition, lane } }: ListedLog): (string | number)[] {
  return [topic, partition, lane];
}
