import { errorTable, type ErrorKind } from '../../../src/rpc/edge/error-table.ts';
import type { Answer } from './exchange.ts';

export type GeneratorName = 'protobuf' | 'json' | 'headers' | 'http1' | 'frames';

interface Foreseen {
  readonly reasons: readonly ErrorKind[];
  /** Answers without a reason, which HTTP or its libraries give before there is a call. */
  readonly httpStatuses: readonly number[];
  /** Codes without a reason. */
  readonly codes: readonly string[];
  readonly ends: readonly Answer['ended'][];
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
  'SERVICE_NOT_FOUND',
  'TOPIC_EXISTS',
  'SUBSCRIPTION_EXISTS',
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
  // A topic that is deleted under a join.
  'DATA_REFUSED',
  // The cases share connections, and a large read counts its answer before it is made.
  'CONNECTION_BUSY',
];
const ofEdges: readonly ErrorKind[] = ['UNIMPLEMENTED_METHOD', 'COMPRESSION_REFUSED', 'REQUEST_TOO_LARGE'];

const message: Foreseen = { reasons: ofMessages, httpStatuses: [], codes: [], ends: ['answered', 'left'] };

/** By generator. Anything else is a fault of the broker, or a new line of this table. */
const foreseen: Readonly<Record<GeneratorName, Foreseen>> = {
  protobuf: message,
  json: message,
  headers: {
    reasons: [...ofMessages, ...ofEdges],
    httpStatuses: [400, 404, 405, 415, 417],
    // connect-node refuses a malformed timeout by itself, and a path of operators a wrong method.
    codes: ['DEADLINE_EXCEEDED', 'INVALID_ARGUMENT', 'UNIMPLEMENTED'],
    // A connection whose framing is wrong may end, or stop.
    ends: ['answered', 'left', 'reset', 'closed', 'silent'],
  },
  http1: {
    reasons: [...ofMessages, ...ofEdges],
    httpStatuses: [100, 200, 400, 404, 405, 408, 413, 415, 417, 426, 431, 505],
    codes: ['DEADLINE_EXCEEDED'],
    ends: ['answered', 'left', 'closed'],
  },
  frames: { reasons: [], httpStatuses: [], codes: [], ends: ['answered', 'left', 'closed'] },
};

/** @returns what is wrong with the answer; null: nothing. */
export function complaintOf(generator: GeneratorName, answer: Answer, mayWait: boolean): string | null {
  const { reasons, httpStatuses, codes, ends } = foreseen[generator];
  const { ended, httpStatus, code, reason, text } = answer;
  const told = `${ended}, HTTP ${httpStatus}, ${code}, ${reason}: ${text.slice(0, 300)}`;
  if (!ends.includes(ended)) return `an end that is not foreseen: ${told}`;
  if (ended === 'left') return mayWait || generator === 'http1' || generator === 'frames' ? null : `late: ${told}`;
  if (ended !== 'answered' || code === 'OK') return null;
  if (reason !== null) {
    if (!(reasons as readonly string[]).includes(reason)) return `a reason that is not foreseen: ${told}`;
    const row = errorTable[reason as ErrorKind];
    return code === null || code === row.code ? null : `the code of another reason: ${told}`;
  }
  if (code !== null) return codes.includes(code) ? null : `a code without a reason: ${told}`;
  return httpStatus === null || httpStatuses.includes(httpStatus) ? null : `a status without a reason: ${told}`;
}
