# Drives one OpenDHT node of the Python binding: a JSON object per line in, one per line out.
#   in   {"n": number, "op": name, …}
#   out  {"n": number, …result…} or {"n": number, "error": text}; {"listen": number of the listen, "value": …}
import base64, json, sys, threading
import opendht as dht

out = threading.Lock()
runner, tokens = dht.DhtRunner(), {}


def say(obj):
    with out:
        sys.stdout.write(json.dumps(obj) + "\n")
        sys.stdout.flush()


def key(cmd):
    return dht.InfoHash(cmd["key"].encode())


def show(v):
    text = str(v)
    head = text.split("data", 1)[0]
    signed = "signed" in head  # an unsigned value has no owner, and asking for it ends the interpreter
    return {
        "id": v.id,
        "data": base64.b64encode(v.data).decode(),
        "utype": v.user_type,
        "signed": signed,
        "decrypted": "decrypted" in head,
        "owner": str(v.owner) if signed else "",
    }


def run(cmd):
    config = dht.DhtConfig()
    config.setNetwork(cmd["network"])
    identity = None
    if cmd["identity"]:
        identity = dht.Identity.generate(bits=2048)
        config.setIdentity(identity)
    runner.run(port=cmd["port"], ipv4=cmd["bind4"], ipv6=cmd["bind6"], config=config)
    if cmd["bootstrap"]:
        bootstrap(cmd)
    node = runner.getNodeId()
    return {
        "id": node.decode() if isinstance(node, bytes) else str(node),
        "key": str(identity.publickey) if identity else "",
        "port": runner.getBound(cmd["family"]).getPort(),
    }


def bootstrap(cmd):
    host, _, port = cmd["bootstrap"].rpartition(":")
    runner.bootstrap(host.strip("[]"), port)
    return {}


def put(cmd):
    v = dht.Value(base64.b64decode(cmd["data"]))
    if cmd.get("id"):
        v.id = cmd["id"]
    if cmd.get("utype"):
        v.user_type = cmd["utype"]
    ok = runner.put(key(cmd), v)
    return {"ok": ok, "id": v.id}


def get(cmd):
    where = dht.Where(cmd["where"]) if cmd.get("where") else None
    return {"values": [show(v) for v in runner.get(key(cmd), where=where)]}


def listen(cmd):
    number = cmd["n"]

    def heard(v, expired=False):
        say({"listen": number, "value": dict(show(v), expired=expired)})
        return True

    tokens[number] = runner.listen(key(cmd), heard)
    return {}


def good(_):
    return {"good": sum(runner.getRoutingTablesLog(f).count("[good]") for f in (2, 10))}


ops = {"run": run, "bootstrap": bootstrap, "put": put, "get": get, "listen": listen, "good": good}


def serve(cmd):
    try:
        answer = ops[cmd["op"]](cmd)
    except Exception as e:
        answer = {"error": repr(e)}
    answer["n"] = cmd["n"]
    say(answer)


for line in sys.stdin:
    threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
