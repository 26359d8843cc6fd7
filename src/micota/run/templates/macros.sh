{#- What both scripts begin with. The filter `q` makes one word of the shell of any text. -#}
{% macro head(options, folder) -%}
#!/usr/bin/env bash
{% for option in options %}
#SBATCH {{ option }}
{% endfor %}
# shellcheck disable=SC2329 # functions are called by traps

here={{ folder | q }}
{%- endmacro %}

{% macro surroundings(cwd, modules, container) -%}
cd -- {{ cwd | q }} || exit
{% for module in modules %}
module load {{ module | q }} || exit
{% endfor %}
ulimit -n "$(ulimit -Hn)"
{%- if container %}

inside=({{ "srun --overlap --nodes=1 --ntasks=1 --cpu-bind=none " if container[0].startswith("--") }}{{ container | map("q") | join(" ") }}) # how a command runs on this node: in the image
{%- endif %}
{%- endmacro %}

{% macro cluster() -%}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$here/token" # who does not have the token can neither join nor use the cluster
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # nothing on a node has to last
export RAY_raylet_start_wait_time_s=120        # a slow file system is no failure
{%- endmacro %}
