"""Runs DAGs that tests make in memory, through Airflow's own ``dag.test()``, on both lines of Airflow."""

from __future__ import annotations

import gc
import uuid
from typing import Any


def new_dag(**arguments: Any) -> Any:
    from airflow.providers.common.compat.sdk import DAG

    return DAG(f"test_{uuid.uuid4().hex}", schedule=None, **arguments)


def store(dag: Any) -> None:
    """Make a DAG known to the database, which Airflow 3 asks for before it runs one (2.11 does it by itself)."""
    try:
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
    except ImportError:
        return
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        if session.get(DagBundleModel, "testing") is None:
            session.add(DagBundleModel(name="testing"))
    SerializedDAG.bulk_write_to_db("testing", None, [dag])
    SerializedDagModel.write_dag(LazyDeserializedDAG(data=DagSerialization.to_dict(dag)), "testing", None)


class Outcome:
    """What a run left: states, tries and returned values of its tasks."""

    def __init__(self, run: Any) -> None:
        self.state = str(getattr(run.state, "value", run.state))
        self._instances = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
        self.run = run

    def instance(self, task_id: str, map_index: int = -1) -> Any:
        return self._instances[task_id, map_index]

    def state_of(self, task_id: str, map_index: int = -1) -> str:
        state = self.instance(task_id, map_index).state
        return str(getattr(state, "value", state))

    def tries_of(self, task_id: str) -> int:
        return int(self.instance(task_id).try_number)

    def returned(self, task_id: str, map_index: int = -1) -> Any:
        from airflow.models.xcom import XCom
        from airflow.utils.session import create_session

        model = XCom
        try:
            from airflow.models.xcom import XComModel

            model = XComModel
        except ImportError:
            pass
        with create_session() as session:
            rows = session.query(model).filter_by(
                dag_id=self.run.dag_id, run_id=self.run.run_id, task_id=task_id, key="return_value", map_index=map_index
            )
            row = rows.one()
            value = row.value
        if isinstance(value, bytes):
            return XCom.deserialize_value(row)
        import json

        return json.loads(value) if isinstance(value, str) else value


def run(dag: Any) -> Outcome:
    store(dag)
    return Outcome(dag.test())


def ends_by_timeout(dag: Any, task_id: str) -> bool:
    """Run a DAG and tell whether the task ended by its timeout; 2.11's ``dag.test()`` lets the exception out."""
    # Hypothesis has a callback of the garbage collector. After a long collection it is the first code that runs, so
    # that the exception of a timeout is raised in it, where Python prints and forgets it.
    callbacks, gc.callbacks[:] = list(gc.callbacks), []
    try:
        return run(dag).state_of(task_id) == "failed"
    except BaseException as error:
        if type(error).__name__ == "AirflowTaskTimeout":
            return True
        raise
    finally:
        gc.callbacks[:] = callbacks
