import type { ErrorKind } from '../../../src/rpc/edge/error-row.ts';
import { errorTable } from '../../../src/rpc/edge/error-table.ts';
import type { Answer } from './exchange.ts';
import type { Case, GeneratorName } from './fuzzer.ts';

interface Foreseen {
  readonly reasons: readonly string[];
  /** Answers without a reason, which HTTP or its libraries give before there is a call. */
  readonly httpStatuses: readonly number[];
  /** Codes without a reason. */
  readonly codes: readonly string[];
}

/** What a request may be refused for that arrives as one whole message. */
const ofMessages: readonly ErrorKind[] = [
  'INVALID_FIELD',
  'MALFORMED_REQUEST',
  'PARTITION_OUT_OF_RANGE',
  'OFFSET_OUT_OF_RANGE',
  'ASSIGNOR_UNKNOWN',
  'TOPIC_NOT_FOUND',
  'GROUP_NOT_FOUND',
  'SUBSCRIPTION_NOT_FOUND',
  'SUBSCRIPTION_STATE',
  'SUBSCRIPTION_CANCELLED',
  'SERVICE_NOT_FOUND',
  'TOPIC_EXISTS',
  'SUBSCRIPTION_EXISTS',
  'NO_SUBSCRIPTIONS',
  'EXPECTED_OFFSET_MISMATCH',
  'PARTITIONS_CANNOT_SHRINK',
  'GROUP_MEMBERS_MAX',
  'GROUP_TOPICS_MAX',
  'GROUP_NOT_EMPTY',
  'GROUP_DELETED',
  'INSTANCE_FENCED',
  'INSTANCE_ID_IN_USE',
  'INCONSISTENT_PROTOCOLS',
  'ASSIGNOR_FAILED',
  'NOT_LEADER',
  'PLAN_STALE',
  'MEMBER_FENCED',
  'REPLACED',
  'SYNC_TIMEOUT',
  'PAGE_STALE',
  // The cases share connections, and a large read counts its answer before it is made.
  'CONNECTION_BUSY',
  // On a machine on which the database stands. `faultsOf` tells whether it was the machine.
  'NOT_OWNER',
];
const ofEdges: readonly ErrorKind[] = ['UNIMPLEMENTED_METHOD', 'COMPRESSION_REFUSED', 'REQUEST_TOO_LARGE'];

const message: Foreseen = { reasons: ofMessages, httpStatuses: [], codes: [] };

/** By generator. Anything else is a fault of the broker, or a new line of this table. */
const foreseen: Readonly<Record<GeneratorName, Foreseen>> = {
  protobuf: message,
  json: message,
  headers: {
    reasons: [...ofMessages, ...ofEdges, 'METHOD_NOT_ALLOWED'],
    // 404 and 405 of the paths of operators, 415 of what is not gRPC, 417 of an odd `expect`.
    httpStatuses: [404, 405, 415, 417],
    codes: [],
  },
  http1: {
    reasons: [...ofMessages, ...ofEdges],
    // Node answers 400, 417, 431 and 505 by itself.
    httpStatuses: [100, 200, 400, 404, 405, 417, 431, 505],
    codes: [],
  },
  frames: { reasons: [], httpStatuses: [], codes: [] },
};

/** @returns what is wrong with an answer to the case; null: nothing. */
export function complaintOf(tried: Case, answer: Answer): string | null {
  const { reasons, httpStatuses, codes } = foreseen[tried.generator];
  const { ended, httpStatus, code, reason, text } = answer;
  const told = `${ended}, HTTP ${httpStatus}, ${code}, ${reason}: ${text.slice(0, 300)}`;
  if (!mayEnd(tried, answer)) return `an end that is not foreseen: ${told}`;
  if (ended !== 'answered' || code === 'OK') return null;
  // The edge of gRPC has a reason for it.
  if (code === 'DEADLINE_EXCEEDED' && reason !== 'SYNC_TIMEOUT') {
    return isTimed(tried) ? null : `a timeout that nobody asked for: ${told}`;
  }
  if (reason !== null) {
    if (!reasons.includes(reason)) return `a reason that is not foreseen: ${told}`;
    const row = (errorTable as Readonly<Record<string, { readonly code: string }>>)[reason];
    return code === null || row === undefined || code === row.code ? null : `the code of another reason: ${told}`;
  }
  if (code !== null) return codes.includes(code) ? null : `a code without a reason: ${told}`;
  // Of the origin of a page: a browser shows the text to its user, and reads no reason.
  if (httpStatus === 403) return null;
  if ('raw' in tried && tried.raw.answered !== null && httpStatus !== null && httpStatus !== 200) {
    return `a whole request is refused without a reason: ${told}`;
  }
  // Node's client reads no body of a request that has none, and the reason would be there.
  if (httpStatus === 400 && hasNoBody(tried)) return null;
  return httpStatus === null || httpStatuses.includes(httpStatus) ? null : `a status without a reason: ${told}`;
}

/** Whether the case may end so. What is whole must be answered, unless its call may wait. */
function mayEnd(tried: Case, { ended, text }: Answer): boolean {
  if (ended === 'silent' || ended === 'held') return false;
  if ('raw' in tried) return tried.raw.answered === null || (ended !== 'left' && text === '');
  const { awaits, mayBeReset, endsConnection } = tried.exchange;
  switch (ended) {
    case 'answered':
      return true;
    case 'left':
      return awaits !== 'answer';
    case 'reset':
      // A reset for an internal error is never the fault of a client.
      return mayBeReset && !text.startsWith('reset 2');
    case 'closed':
      return endsConnection;
  }
}

function hasNoBody(tried: Case): boolean {
  return 'exchange' in tried && ['GET', 'HEAD', 'DELETE'].includes(String(tried.exchange.headers[':method']));
}

function isTimed(tried: Case): boolean {
  return 'exchange' in tried && Object.keys(tried.exchange.headers).some((name) => name.includes('timeout'));
}
