import { toJson, type DescMethodUnary, type JsonObject, type MessageShape } from '@bufbuild/protobuf';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { limits } from '../../limits/limits.ts';
import { Reply } from '../../delivery/ports/reply.ts';
import { callerOf } from '../edge/caller.ts';
import type { ReportBug } from '../edge/errors.ts';
import { decodeJson } from '../translation/decode.ts';
import type { Handlers } from '../handlers/handlers.ts';
import type { NodeRequest } from '../requests/request-body.ts';
import { pathOf } from '../requests/rpc-listener.ts';
import { json, notAllowed, refused, type Answer } from './answers.ts';
import { decoded, parametersOf, queryOf, single } from './query.ts';

/** A path and its query, as the requests that they mean. */
type Route = (call: JsonCall, query: URLSearchParams) => Promise<JsonObject>;

/**
 * Calls a method of GroupService with a request in JSON, as a client of the Connect protocol would.
 */
type JsonCall = (method: DescMethodUnary, request: JsonObject) => Promise<JsonObject>;

export const consumerGroupsPath = '/consumer-groups';
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

/** STABLE or, as JSON has it, GROUP_STATE_STABLE. */
function stateName(state: string): string {
  return state.startsWith('GROUP_STATE_') ? state : `GROUP_STATE_${state}`;
}
