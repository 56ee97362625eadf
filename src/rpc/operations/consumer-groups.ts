import { toJson, type DescMethodUnary, type JsonObject, type MessageShape } from '@bufbuild/protobuf';
import { codeToHttpStatus, codeToString } from '@connectrpc/connect/protocol-connect';
import { ErrorInfoSchema, type ErrorInfo } from '../../../gen/google/rpc/error_details_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { limits } from '../../limits/limits.ts';
import { Reply } from '../../delivery/ports/reply.ts';
import { invalidField, malformedRequest } from '../../errors/rejections/requests.ts';
import { callerOf } from '../edge/caller.ts';
import { rpcErrorOf, type ReportBug } from '../edge/errors.ts';
import { decodeJson } from '../translation/decode.ts';
import type { Handlers } from '../handlers/handlers.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf } from '../requests/rpc-listener.ts';

/** The answer to a plain HTTP request. */
export interface Answer {
  readonly status: number;
  readonly body: string | Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/** A path and its query, as the requests that they mean. */
type Route = (call: JsonCall, query: URLSearchParams) => Promise<JsonObject>;

/**
 * Calls a method of GroupService with a request in JSON, as a client of the Connect protocol would.
 */
type JsonCall = (method: DescMethodUnary, request: JsonObject) => Promise<JsonObject>;

export const consumerGroupsPath = '/consumer-groups';
/** Node passes each byte of a path as one character, so UTF-8 must be decoded here. */
const beyondAscii = /[^\x21-\x7e]/;

/**
 * Consumer groups for operators and their tools: GET of /consumer-groups, /consumer-groups/{group}
 * and /consumer-groups/{group}/assignments answers what ListGroups, GetGroup with ListRebalances,
 * and ListMembers do, in JSON.
 *
 * @returns null if the path is none of these.
 */
export async function consumerGroupsAnswer(
  request: NodeRequest,
  handlers: Handlers,
  reportBug: ReportBug,
): Promise<Answer | null> {
  const path = pathOf(request);
  const route = routeOf(path);
  if (route === null) return null;
  if (request.method !== 'GET' && request.method !== 'HEAD') return notAllowed(path);
  try {
    return json(200, await route(jsonCall(handlers, request), queryOf(request, path)));
  } catch (error) {
    return refused(error, reportBug);
  }
}

function routeOf(path: string): Route | null {
  if (path === consumerGroupsPath) return listGroups;
  if (!path.startsWith(`${consumerGroupsPath}/`)) return null;
  const [name = '', of, ...more] = path.slice(consumerGroupsPath.length + 1).split('/');
  if (more.length > 0) return null;
  if (of === undefined) return (call, query) => getGroup(call, query, decoded(name));
  return of === 'assignments' ? (call, query) => listMembers(call, query, decoded(name)) : null;
}

async function listGroups(call: JsonCall, query: URLSearchParams): Promise<JsonObject> {
  const { state: states = [], ...one } = parametersOf(query, ['state', 'topic', 'pageSize', 'pageToken']);
  return call(GroupService.method.listGroups, { states: states.map(stateName), ...single(one) });
}

async function getGroup(call: JsonCall, query: URLSearchParams, group: string): Promise<JsonObject> {
  const page = single(parametersOf(query, ['pageSize', 'pageToken']));
  const { getGroup: get, listRebalances } = GroupService.method;
  const [found, rebalances] = await Promise.all([call(get, { ...page, group }), call(listRebalances, { group })]);
  return { ...found, ...rebalances };
}

async function listMembers(call: JsonCall, query: URLSearchParams, group: string): Promise<JsonObject> {
  const page = single(parametersOf(query, ['pageSize', 'pageToken']));
  return call(GroupService.method.listMembers, { ...page, group });
}

function jsonCall(handlers: Handlers, request: NodeRequest): JsonCall {
  const call = {
    caller: callerOf(request.socket.remoteAddress),
    recordsBytesMax: limits.jsonRecordsBytesMax,
    reply: () => new Reply(),
  };
  return async (method, fields) => {
    const unary = handlers.unary.find((one) => one.method === method);
    if (unary === undefined) throw new Error(`no handler for ${method.name}`);
    const response = await unary.handle(call, decodeJson(method.input, Buffer.from(JSON.stringify(fields))));
    // With zeros and empty lists, so that a script need not know that proto3 omits them.
    const message = response as MessageShape<typeof method.output>;
    return toJson(method.output, message, { alwaysEmitImplicit: true }) as JsonObject;
  };
}

/** The values of each parameter. @throws Rejection for an unknown parameter. */
function parametersOf(query: URLSearchParams, names: readonly string[]): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const name of new Set(query.keys())) {
    if (!names.includes(name))
      throw invalidField(name, `is no parameter of this path; it has ${names.join(', ') || 'none'}`);
    found[name] = query.getAll(name);
  }
  return found;
}

function single(parameters: Readonly<Record<string, readonly string[]>>): Record<string, string> {
  const entries = Object.entries(parameters).map(([name, [value = '', ...more]]) => {
    if (more.length > 0) throw invalidField(name, 'is given more than once');
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}

/** STABLE or, as JSON has it, GROUP_STATE_STABLE. */
function stateName(state: string): string {
  return state.startsWith('GROUP_STATE_') ? state : `GROUP_STATE_${state}`;
}

/** Strict, because URLSearchParams replaces invalid UTF-8 and keeps an invalid %. */
function queryOf(request: NodeRequest, path: string): URLSearchParams {
  const query = request.url?.slice(path.length + 1) ?? '';
  decoded(query);
  return new URLSearchParams(query);
}

function decoded(text: string): string {
  try {
    if (beyondAscii.test(text)) throw new URIError('not a URI');
    return decodeURIComponent(text);
  } catch {
    const why = 'has a % that is not followed by a byte of UTF-8, or a character that a URL must not have';
    throw malformedRequest(`the path or its query ${why}`);
  }
}

function refused(error: unknown, reportBug: ReportBug): Answer {
  const { code, message, details } = rpcErrorOf(error, reportBug);
  const info = details.find(({ desc }) => desc === ErrorInfoSchema)?.value as ErrorInfo | undefined;
  return json(codeToHttpStatus(code), { code: codeToString(code), reason: info?.reason ?? '', message });
}

function notAllowed(path: string): Answer {
  const body = { code: 'unimplemented', reason: 'METHOD_NOT_ALLOWED', message: `${path} can only be read: use GET` };
  const { headers, ...answer } = json(405, body);
  return { ...answer, headers: { ...headers, allow: 'GET, HEAD' } };
}

function json(status: number, body: JsonObject): Answer {
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' };
  return { status, body: `${JSON.stringify(body)}\n`, headers };
}
