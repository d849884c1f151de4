"""Go's template language: the values here are what Go's own text/template gives."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.manager.control.validate import validate_service
from skep.model import template
from skep.model.container import ContainerSpec, DriverConfig, Mount, VolumeOptions
from skep.model.spec import Platform, ServiceSpec, TaskSpec
from skep.model.template import Fields, Wrong, expand, template_values
from skep.model.template_budget import Budget
from skep.model.template_use import expanded
from skep.runtime.errors import Invalid

VALUES = template_values(
    ("sid", "web", {"a": "1", "b": "2"}),
    ("nid", "host", Platform(architecture="x86_64", os="linux")),
    ("tid", "web.3.tid", "3"),
)

GIVES = [
    ("no template", "no template"),
    ("{{.Service.Name}}-{{.Task.Slot}}.{{ .Node.Hostname }}", "web-3.host"),
    ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64"),
    ('{{index .Service.Labels "a"}}|{{index .Service.Labels "zz"}}|{{.Service.Labels.b}}', "1||2"),
    ('{{if eq .Task.Slot "1" "3"}}odd{{else}}even{{end}}', "odd"),
    ('{{if eq .Task.Slot "1"}}one{{else if ne .Task.Slot "2"}}many{{else}}two{{end}}', "many"),
    ("{{range $k, $v := .Service.Labels}}{{$k}}={{$v}},{{end}}", "a=1,b=2,"),
    ("{{range .Service.Labels}}{{.}}{{$.Task.ID}}{{break}}{{end}}", "1tid"),
    ('{{range .Service.Labels}}{{if eq . "1"}}{{continue}}{{end}}{{.}}{{end}}', "2"),
    ('{{with index .Service.Labels "zz"}}x{{else}}none{{end}}', "none"),
    ('{{with $x := "a"}}{{$x | printf "%s-%s" "b"}}{{end}}', "b-a"),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{$x := 3}}{{end}}{{$x}}", "2"),
    ('  {{- " a " -}}  b', " a b"),
    ("a {{- /* a comment }} with a brace */ -}} b", "ab"),
    ('{{"}}"}}{{`raw"x\\n`}}{{"\\u00e9\\x41\\101"}}', '}}raw"x\\néAA'),
    ("{{.Service.Labels}} {{.Node.Platform}}", "map[a:1 b:2] {x86_64 linux}"),
    ('{{and 1 0}} {{or "" "x"}} {{not true}} {{and false .Nothing}}', "0 x false false"),
    ('{{join "-" .Service.Name .Task.Slot}}', "web-3"),
    ('{{len "häh"}} {{slice "abc" 1 2}} {{index "abc" 1}}', "4 b 98"),
    ("{{lt 1 2}} {{ge 2 2}} {{gt 1.5 2.5}} {{le `a` `b`}}", "true true false true"),
    ('{{print 1 2 "a" 3}}|{{println "a" 1}}', "1 2a3|a 1\n"),
    (
        "{{0x10}} {{010}} {{0b11}} {{1_000}} {{'a'}} {{1.0}} {{1e20}} {{0.00001}} {{123456.5}}",
        "16 8 3 1000 97 1 1e+20 1e-05 123456.5",
    ),
    (
        '{{printf "%05d|%-4s|%4s|%q|%x|%X|%+d|%t" 42 "a" "b" "c\\t" 255 "hi" 5 true}}',
        '00042|a   |   b|"c\\t"|ff|6869|+5|true',
    ),
    (
        '{{printf "%6.2f|%e|%c|%U|%#x|%o|%b|%.3d" 3.14159 1234.5 65 65 255 8 5 5}}',
        "  3.14|1.234500e+03|A|U+0041|0xff|10|101|005",
    ),
    (
        '{{printf "%d" "x"}} {{printf "%s"}} {{printf "x" 1}} {{printf "%"}}',
        "%!d(string=x) %!s(MISSING) x%!(EXTRA int=1) %!(NOVERB)",
    ),
    ('{{html "<a>\'"}} {{js "<\'"}} {{urlquery "a b&"}}', "&lt;a&gt;&#39; \\u003C\\' a+b%26"),
    (
        '{{printf "%c%c%c%c|%q" 55296 0xDFFF 1114112 -1 55296}} {{printf "%c%q" 0xFFFD 0x1F41D}}',
        "\ufffd\ufffd\ufffd\ufffd|'\ufffd' \ufffd'\U0001f41d'",
    ),
    ("{{range 3}}{{.}}{{end}}{{range 0}}x{{else}}none{{end}}", "012none"),
]


@pytest.mark.parametrize(("text", "result"), GIVES)
def test_gives_what_go_gives(text: str, result: str) -> None:
    assert expand(text, VALUES) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{", "expansion:1: unclosed action"),
        ("a\nb\n{{.Service", "expansion:3: unclosed action"),
        ("{{.Foo}}", "can't evaluate field Foo: there are Service, Node, Task"),
        ("\n{{.Task.Foo}}", "expansion:2: can't evaluate field Foo"),
        ("{{.Service.Labels.zz}}", 'map has no entry for key "zz"'),
        ("{{.Service.Name.X}}", "can't evaluate field X"),
        ('{{env "X"}}', 'function "env" not defined'),
        ("{{if true}}x", "{{if}} has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if true}}a{{else}}b{{else}}c{{end}}", "unexpected {{else}}|more than one"),
        ("{{if}}{{end}}", "missing value for command"),
        ("{{nil}}", "nil is not a command"),
        ('{{"a" "b"}}', "only a function can have arguments"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{if $x := 1}}{{end}}{{$x}}", 'undefined variable "$x"'),
        ('{{template "x"}}', "{{template}} is not supported"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ('{{eq 1 "1"}}', "error calling eq: incompatible types"),
        ("{{not}}", "wrong number of args for not"),
        ("{{index .Service 1}}", "can't index item of type struct"),
        ('{{slice "abc" 2 1}}', "invalid slice index"),
        ("{{range .Service.Name}}{{end}}", "range can't iterate over web"),
        ('{{"\\ud800"}}', "no character has the number of \\ud800"),
        ("{{'\\U00110000'}}", "no character has the number of \\U00110000"),
        ("{{.Service.ID.}}", "unexpected '.'"),
        ("{{#}}", "unexpected '#'"),
        ("{{" + "(" * 60 + "1" + ")" * 60 + "}}", "inside one another"),
        ("{{if true}}" * 60, "inside one another"),
        ("{{range 1000}}{{range 1000}}{{end}}{{end}}" * 2, "steps"),
        ('{{$x := "0123456789"}}{{range 30}}{{$x = print $x $x}}{{end}}', "steps"),
        ("{{range 4000}}" + "x" * 400 + "{{end}}", "characters"),
    ],
)
def test_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        expand(text, VALUES)
    assert any(part in str(caught.value) for part in words.split("|"))
    assert str(caught.value).startswith("template: expansion:")


def test_has_the_functions_that_are_given() -> None:
    def secret(name: str) -> str:
        if name != "known":
            raise Wrong(f"secret {name} is not there")
        return "word"

    functions = {"secret": secret}
    assert expand('{{secret "known" | printf "%s!"}}', Fields(), functions) == "word!"
    with pytest.raises(Invalid, match="error calling secret: secret other is not there"):
        expand('{{secret "other"}}', Fields(), functions)
    template.check('{{secret "other"}}', functions)


def test_a_containers_templates_are_where_dockers_are() -> None:
    volume = VolumeOptions(
        labels={"{{x": "{{.Node.ID}}"}, driver_config=DriverConfig(options={"o": "{{.Task.Slot}}"})
    )
    mount = Mount(type="volume", source="v{{.Task.Slot}}", target="/{{.Service.Name}}", volume_options=volume)
    spec = ContainerSpec(
        hostname="{{.Node.Hostname}}-x",
        env=["{{a=b{{.Task.ID}}", "EMPTY", "C=d=e"],
        mounts=[mount],
        args=["{{"],
    )
    found = expanded(spec, VALUES, Budget())
    assert found.hostname == "host-x"
    assert found.env == ["{{a=btid", "EMPTY", "C=d=e"]
    assert found.args == ["{{"]
    assert (found.mounts[0].source, found.mounts[0].target) == ("v3", "/web")
    assert found.mounts[0].volume_options is not None
    assert found.mounts[0].volume_options.labels == {"{{x": "nid"}
    assert found.mounts[0].volume_options.driver_config == DriverConfig(options={"o": "3"})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ContainerSpec(hostname="{{.Bad}}"), "expanding hostname failed: template: "),
        (ContainerSpec(env=["Y={{.Bad}}"]), 'expanding env failed: expanding env "Y={{.Bad}}": template: '),
        (
            ContainerSpec(mounts=[Mount(type="tmpfs", target="{{.Bad}}")]),
            'expanding mounts failed: expanding mount target "{{.Bad}}": template: ',
        ),
    ],
)
def test_a_bad_template_is_refused_when_the_service_is_made(spec: ContainerSpec, words: str) -> None:
    spec = replace(spec, image="image")
    with pytest.raises(Invalid) as caught:
        validate_service(ServiceSpec(name="web", task_template=TaskSpec(container_spec=spec)))
    assert str(caught.value).startswith(f"rpc error: code = InvalidArgument desc = {words}")


def test_a_services_own_labels_are_there_when_it_is_made() -> None:
    container = ContainerSpec(image="image", env=["A={{.Service.Labels.tier}}"])
    spec = ServiceSpec(name="web", labels={"tier": "front"}, task_template=TaskSpec(container_spec=container))
    validate_service(spec)
    with pytest.raises(Invalid, match='no entry for key "tier"'):
        validate_service(replace(spec, labels={}))
