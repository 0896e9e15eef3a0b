%% The same two ends in Erlang: a gen_server that counts, and a node that casts and calls as it is told on its input.
-module(links).
-behaviour(gen_server).
-export([counter/0, caller/1, init/1, handle_call/3, handle_cast/2]).

counter() ->
    {ok, _} = gen_server:start({local, counter}, ?MODULE, [], []).

init([]) -> {ok, 0}.

handle_cast({add, Bytes}, Count) when byte_size(Bytes) =:= 100 -> {noreply, Count + 1}.

handle_call(count, _From, Count) -> {reply, Count, 0};
handle_call({echo, Bytes}, _From, Count) -> {reply, Bytes, Count}.

caller([Node]) ->
    spawn(fun() ->
        await(Node),
        Counter = rpc:call(Node, erlang, whereis, [counter]),
        io:format("ready~n"),
        obey(Counter)
    end).

await(Node) ->
    case net_adm:ping(Node) =:= pong andalso rpc:call(Node, erlang, whereis, [counter]) of
        Pid when is_pid(Pid) -> ok;
        _ -> timer:sleep(50), await(Node)
    end.

obey(Counter) ->
    case io:get_line("") of
        Line when is_list(Line) ->
            {Count, Micros} = do(Counter, string:lexemes(Line, " \n")),
            io:format("~b ~b~n", [Count, Micros]),
            obey(Counter);
        _ -> halt()
    end.

do(Counter, ["casts", Millis]) ->
    Began = now_micros(),
    cast_until(Counter, payload(), Began + list_to_integer(Millis) * 1000),
    Count = gen_server:call(Counter, count, infinity),
    {Count, now_micros() - Began};
do(Counter, ["calls", Millis, Callers]) ->
    Began = now_micros(),
    Until = Began + list_to_integer(Millis) * 1000,
    Self = self(),
    Start = fun(_) -> spawn_link(fun() -> Self ! {calls, call_until(Counter, payload(), Until, 0)} end) end,
    Started = lists:map(Start, lists:seq(1, list_to_integer(Callers))),
    Count = lists:sum([receive {calls, Calls} -> Calls end || _ <- Started]),
    {Count, now_micros() - Began}.

cast_until(Counter, Payload, Until) ->
    cast_some(Counter, Payload, 64),
    case now_micros() < Until of
        true -> cast_until(Counter, Payload, Until);
        false -> ok
    end.

cast_some(_, _, 0) -> ok;
cast_some(Counter, Payload, Left) ->
    gen_server:cast(Counter, {add, Payload}),
    cast_some(Counter, Payload, Left - 1).

call_until(Counter, Payload, Until, Calls) ->
    case now_micros() < Until of
        true ->
            Payload = gen_server:call(Counter, {echo, Payload}, 10000),
            call_until(Counter, Payload, Until, Calls + 1);
        false -> Calls
    end.

payload() -> binary:copy(<<7>>, 100).

now_micros() -> erlang:monotonic_time(microsecond).
